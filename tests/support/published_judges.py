"""Configurations of the judges that launch files name, with the sizes that their publisher gives; no weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEXT: dict[str, dict[str, int]] = {
    "Qwen/Qwen2.5-VL-7B-Instruct": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
    "Qwen/Qwen2.5-VL-32B-Instruct": {
        "hidden_size": 5120,
        "intermediate_size": 27648,
        "num_hidden_layers": 64,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
    },
}
PARAMETERS = {"Qwen/Qwen2.5-VL-7B-Instruct": 8.29e9, "Qwen/Qwen2.5-VL-32B-Instruct": 33.5e9}
"""As the model cards count them."""


def write_judge(name: str, directory: Path) -> Path:
    """A directory with the judge's config.json."""
    text = TEXT[name]
    config: dict[str, Any] = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "tie_word_embeddings": False,
        "text_config": {"model_type": "qwen2_5_vl_text", "vocab_size": 152064, "tie_word_embeddings": False, **text},
        "vision_config": {
            "model_type": "qwen2_5_vl_vision",
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": text["hidden_size"],
        },
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    return directory
