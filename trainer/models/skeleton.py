"""A pipeline without its weights: modules on the meta device, but real tokenizers and scheduler.

Enough to count parameters, choose sizes and measure texts; it cannot run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers


def load_skeleton(pipeline_class: Any, path: str) -> Any:
    """Load from a directory or Hub name; from the Hub only the small files are fetched. Raises OSError."""
    directory = Path(path) if Path(path).is_dir() else Path(_fetch_small_files(path))
    index = json.loads((directory / "model_index.json").read_text(encoding="utf-8"))
    modules = {
        name: _empty(entry[0], entry[1], directory / name)
        for name, entry in index.items()
        if isinstance(entry, list) and (directory / name / "config.json").is_file()
    }
    return pipeline_class.from_pretrained(directory, **modules)


def _empty(library: str, class_name: str, directory: Path) -> Any:
    with torch.device("meta"):
        if library == "diffusers":
            model = getattr(diffusers, class_name)
            return model.from_config(model.load_config(directory))
        return getattr(transformers, class_name)(transformers.AutoConfig.from_pretrained(directory))


def _fetch_small_files(name: str) -> str:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only for Hub names

    return str(snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.model", "*.jinja"]))
