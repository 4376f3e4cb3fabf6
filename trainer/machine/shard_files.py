"""Named tensors in safetensors files, of which each process writes and reads only its own shards.

torch.distributed.checkpoint plans who writes and reads what. Its storage for safetensors needs no pickle: the header of
a file says where in its tensor each shard lies. A file without such a header contains whole tensors, so files of other
programs are read the same way. Any number of processes can read what another number has written.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from edit_r1.shared.errors import CheckpointError

_FILE_BYTES = 2**28
"""Approximate size of one file; a process holds up to two copies of a file's contents while it writes it."""


def write_shards(directory: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the shards of all processes, which must all call it with the same names.

    Raises CheckpointError on every process when one cannot write.
    """
    if not tensors:
        return
    writer = HuggingFaceStorageWriter(
        str(directory), save_distributed=True, fqn_to_index_mapping=_file_numbers(tensors)
    )
    with _one_error(f"cannot write {directory}"):
        save(dict(tensors), storage_writer=writer)


def shard_files(directory: Path) -> list[Path]:
    """The files in a directory that `write_shards` wrote, of all processes."""
    return sorted(directory.glob("shard-*.safetensors"))


def writer_of(path: Path) -> int:
    """Rank of the process that wrote a file in a directory of shards; 0 for all other files."""
    found = re.match(r"shard-(\d+)-", path.name)
    return int(found[1]) - 1 if found else 0


def stored_tensors(files: Sequence[Path]) -> dict[str, Tensor]:
    """Shape and dtype of every tensor in the files, as tensors without contents (on the meta device)."""
    if not files:
        return {}
    with _one_error(f"cannot read {files[0].parent}"):
        found = _Reader(files).read_metadata().state_dict_metadata
    return {
        name: torch.empty(entry.size, dtype=entry.properties.dtype, device="meta")
        for name, entry in found.items()
        if isinstance(entry, TensorStorageMetadata)
    }


def read_shards(files: Sequence[Path], into: Mapping[str, Tensor], *, alone: bool = False) -> None:
    """Overwrite tensors with the contents of files; each process reads only its shards, and values are cast.

    into: tensors by their names in the files. alone: called by this process only; otherwise all processes must call it.
    Raises CheckpointError when a tensor is missing, has another shape or cannot be read.
    """
    if not into:
        return
    with _one_error(f"cannot read {files[0].parent}"):
        load(dict(into), storage_reader=_Reader(files), no_dist=alone)


class _Reader(HuggingFaceStorageReader):
    """Reads these files instead of all in a directory, which may contain the weights in several precisions."""

    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__(str(files[0].parent))
        self.fs = _These(files)


class _These(FileSystem):
    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__()
        self._files = [str(file) for file in files]

    def ls(self, path: str | os.PathLike[str]) -> list[str]:  # noqa: ARG002 - the same for every path
        return self._files


def _file_numbers(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Which of its files, from 1, a process writes its shard of each tensor to; the same on all processes."""
    num_processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    numbers, so_far = {}, 0
    for name, tensor in tensors.items():
        numbers[name] = 1 + so_far // (_FILE_BYTES * num_processes)
        so_far += tensor.numel() * tensor.element_size()
    return numbers


@contextmanager
def _one_error(what: str) -> Iterator[None]:
    """Turn torch's exception, which carries every process's traceback, into one line."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # a single process needs no collectives
            yield
    except CheckpointException as error:
        faults = "; ".join(f"process {rank}: {fault!r}" for rank, (fault, _) in sorted(error.failures.items()))
        raise CheckpointError(f"{what}: {faults}") from error
