"""Export of trained weights: an adapter as one file that loads at full strength in any tool, or a whole transformer.

Some tools ignore the alpha in a file's metadata and load at scale 1. Here the scale alpha / rank is multiplied into the
B matrices and alpha is set to the rank, so that scale 1 is correct for all of them (diffusers, ComfyUI, ...).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edit_r1.shared.errors import CheckpointError
from edit_r1.trainer.machine.sharding import whole
from edit_r1.trainer.policy.base import CopyName, Policy
from edit_r1.trainer.policy.lora import LoraPolicy
from edit_r1.trainer.policy.transformer_files import write_in_files

WEIGHTS_NAME, PREFIX = LoraPolicy.weights_name, LoraPolicy.prefix


def export_run(policy: Policy, run_dir: Path, *, write: bool) -> None:
    """Write the EMA weights to RUN_DIR/lora or RUN_DIR/transformer. All processes must call it, one with `write`."""
    if isinstance(policy, LoraPolicy):
        if write:
            export_adapter(policy, "ema", run_dir / "lora")
        return
    tensors = policy.tensors("ema")

    def part(names: Sequence[str]) -> dict[str, Tensor]:
        """Gathered one by one; only the main process keeps them."""
        gathered = ((name, whole(tensors[name])) for name in names)
        return {name: tensor.cpu().contiguous() for name, tensor in gathered if write}

    write_in_files(run_dir / "transformer", tensors, part, write=write)
    if write:
        policy.write_config(run_dir / "transformer")


def export_adapter(policy: LoraPolicy, name: CopyName, directory: Path) -> Path:
    """Write `directory`/pytorch_lora_weights.safetensors with the scale folded in; returns the file's path."""
    scale = policy.lora_config.lora_alpha / policy.lora_config.r
    tensors = {PREFIX + key: value for key, value in policy.state(name).items()}
    return write_folded(_fold(tensors, scale), directory)


def read_folded(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint's adapter file and fold in the alpha from its metadata. Raises CheckpointError."""
    try:
        with safe_open(path, framework="pt") as file:
            config = json.loads(file.metadata()[LORA_ADAPTER_METADATA_KEY])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        return _fold(tensors, config[f"{PREFIX}lora_alpha"] / config[f"{PREFIX}r"])
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path} is not an Edit-R1 adapter: {error!r}") from error


def read_adapter(path: Path) -> dict[str, Tensor]:
    """Read an adapter in diffusers' layout: ours with its alpha folded in, any other as is. Raises CheckpointError."""
    try:
        with safe_open(path, framework="pt") as file:
            ours = LORA_ADAPTER_METADATA_KEY in (file.metadata() or {})
            tensors = {} if ours else {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is not an adapter: {error}") from error
    if ours:
        return read_folded(path)
    if not any(key.startswith(PREFIX) for key in tensors):
        raise CheckpointError(f"{path} is not a transformer adapter: no tensor name starts with {PREFIX!r}")
    return tensors


def write_folded(tensors: dict[str, Tensor], directory: Path) -> Path:
    """Write `directory`/pytorch_lora_weights.safetensors; returns the file's path."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / WEIGHTS_NAME, metadata={"format": "pt"})
    return directory / WEIGHTS_NAME


def _fold(tensors: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    return {key: value * scale if ".lora_B." in key else value for key, value in tensors.items()}
