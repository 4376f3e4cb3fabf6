"""Export: an adapter as one file that loads at full strength anywhere.

Some tools ignore the alpha in a file's metadata and load at scale 1. Here the scale alpha / rank is multiplied into the
B matrices and alpha is set to the rank, so that scale 1 is right for all of them (diffusers, ComfyUI, ...).
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from trainer.checkpoint import PREFIX, WEIGHTS_NAME
from trainer.policy import AdapterName, LoraPolicy


def export_adapter(policy: LoraPolicy, name: AdapterName, directory: Path) -> Path:
    """Write `directory`/pytorch_lora_weights.safetensors with the scale folded in; returns the file's path."""
    scale = policy.lora_config.lora_alpha / policy.lora_config.r
    tensors = {PREFIX + key: value * scale if ".lora_B." in key else value for key, value in policy.state(name).items()}
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / WEIGHTS_NAME, metadata={"format": "pt"})
    return directory / WEIGHTS_NAME
