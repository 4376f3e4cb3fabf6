"""All weights of a transformer on disk, in diffusers' format or in a checkpoint's shards.

Written file by file, each of at most 5 GB, and never more than one file's contents are in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from diffusers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFETENSORS_WEIGHTS_NAME
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor, nn

from edit_r1.shared.files import write_json
from edit_r1.trainer.machine.shard_files import read_shards, shard_files, stored_tensors

_FILE_BYTES = 5_000_000_000
_PATTERN = SAFETENSORS_WEIGHTS_NAME.replace(".safetensors", "{suffix}.safetensors")


def weights_in(directory: Path) -> list[Path]:
    """The files with all weights in a directory, in shards or as diffusers saves them; empty for an adapter."""
    return shard_files(directory) or sorted(directory.glob(_PATTERN.format(suffix="*")))


def load_weights(transformer: nn.Module, files: Sequence[Path]) -> None:
    """Overwrite all weights of an unsharded transformer; this process alone calls it. Raises CheckpointError."""
    read_shards(files, transformer.state_dict(), alone=True)


def consolidate(directory: Path, out: Path) -> None:
    """Write the weights of a checkpoint's directory in diffusers' format. Raises CheckpointError."""
    files = weights_in(directory)
    stored = stored_tensors(files)

    def part(names: Sequence[str]) -> dict[str, Tensor]:
        tensors = {name: torch.empty_like(stored[name], device="cpu") for name in names}
        read_shards(files, tensors, alone=True)
        return tensors

    write_in_files(out, stored, part)
    shutil.copy2(directory / "config.json", out)


def write_in_files(
    directory: Path,
    layout: Mapping[str, Tensor],
    part: Callable[[Sequence[str]], dict[str, Tensor]],
    *,
    write: bool = True,
) -> None:
    """Write tensors in diffusers' format; without `write`, only call `part` for each file in the same order.

    layout: shape and dtype of every tensor. part: the CPU tensors of one file, by name.
    """
    split = split_torch_state_dict_into_shards(
        {name: tensor.to("meta") for name, tensor in layout.items()},
        filename_pattern=_PATTERN,
        max_shard_size=_FILE_BYTES,
    )
    if write:
        directory.mkdir(parents=True, exist_ok=True)
        for left in [*weights_in(directory), directory / SAFE_WEIGHTS_INDEX_NAME]:
            left.unlink(missing_ok=True)
    for file, names in split.filename_to_tensors.items():
        tensors = part(names)
        if write:
            save_file(tensors, directory / file, metadata={"format": "pt"})
    if write and split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_json(directory / SAFE_WEIGHTS_INDEX_NAME, index)
