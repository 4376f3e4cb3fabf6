"""A pipeline's transformer on the meta device, with the files its weights are in.

Sharding reads them later: each process only its own shards, instead of all weights first. The transformer is otherwise
what its class's from_pretrained returns: what `__init__` computes (position tables, buffers) is real.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from accelerate import init_empty_weights
from diffusers import DiffusionPipeline
from diffusers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFETENSORS_WEIGHTS_NAME
from torch import nn

from edit_r1.trainer.machine.shard_files import stored_tensors


def unread_transformer(path: str, dtype: torch.dtype) -> tuple[nn.Module, Sequence[Path]] | None:
    """The transformer of a pipeline (directory or Hub name) without its weights, and their files.

    None where from_pretrained does more than copy tensors of the same names from safetensors files. Raises OSError when
    there is no such pipeline.
    """
    directory = Path(path) if Path(path).is_dir() else Path(DiffusionPipeline.download(path))
    index = json.loads((directory / "model_index.json").read_text(encoding="utf-8"))
    library, class_name = index.get("transformer") or ("", "")
    directory /= "transformer"
    files = _files(directory)
    if library != "diffusers" or not files:
        return None
    model: Any = getattr(diffusers, class_name)  # diffusers ships no types
    if model._keep_in_fp32_modules:
        return None
    with init_empty_weights(), _default_dtype(dtype):
        transformer: Any = model.from_config(model.load_config(directory))
    shapes = {name: tensor.shape for name, tensor in transformer.state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in stored_tensors(files).items()}:
        return None
    transformer.register_to_config(_name_or_path=str(directory))  # as from_pretrained does
    return transformer, files


def _files(directory: Path) -> list[Path]:
    """The weights' files, without those in other precisions."""
    index, single = directory / SAFE_WEIGHTS_INDEX_NAME, directory / SAFETENSORS_WEIGHTS_NAME
    if index.is_file():
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return [directory / name for name in sorted(set(names))]
    return [single] if single.is_file() else []


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
