"""The Arrow table of a checked task list, in a cache on disk and memory-mapped by every process of a node.

It is built once (`index_builder`) and found again by the list's content, so a resumed run does not read or check its
list a second time. Mapping it needs pyarrow only, not the `datasets` library, which takes seconds to import.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from edit_r1.trainer.tasks.rows import TaskRows

_FORMAT = 1
"""Raise it when the table's columns or the checks change."""


class TaskTable:
    """The rows of a table, or some of them. Nothing is read until it is asked for."""

    def __init__(self, batches: Sequence[pa.RecordBatch]) -> None:
        self._batches = tuple(batches)
        self._ends = list(itertools.accumulate(batch.num_rows for batch in self._batches))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def row(self, index: int) -> dict[str, Any]:
        """The values of one row, `index` in 0..len - 1."""
        part = bisect.bisect_right(self._ends, index)
        first = self._ends[part - 1] if part else 0
        values: dict[str, Any] = self._batches[part].slice(index - first, 1).to_pylist()[0]
        return values

    def column(self, name: str) -> Iterator[pa.Array]:
        """A column, in parts."""
        return (batch.column(name) for batch in self._batches)

    def part(self, start: int, stop: int) -> TaskTable:
        """The rows from `start` up to `stop`."""
        sliced = (
            batch.slice(max(0, start - (end - batch.num_rows)), stop - max(start, end - batch.num_rows))
            for batch, end in zip(self._batches, self._ends, strict=True)
            if start < end and stop > end - batch.num_rows
        )
        return TaskTable(tuple(sliced))


def cache_directory() -> Path:
    """Where tables are kept: in the cache of the `datasets` library, whose environment variables move it."""
    from huggingface_hub.constants import HF_HOME  # noqa: PLC0415 - not needed to import this module

    return Path(os.environ.get("HF_DATASETS_CACHE", f"{HF_HOME}/datasets")).expanduser() / "edit_r1"


def table_directory(rows: TaskRows) -> Path:
    """Where the table of this list is, or will be. Raises DataError when the list cannot be read."""
    key = f"{_FORMAT} {rows.digest()} {rows.root.resolve()}"
    return cache_directory() / hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def is_built(directory: Path) -> bool:
    """Whether the table is there."""
    return (directory / "dataset_info.json").is_file()


def open_table(directory: Path) -> TaskTable:
    """Map a built table."""
    maps = (pa.memory_map(str(path)) for path in sorted(directory.glob("*.arrow")))
    return TaskTable([batch for one in maps for batch in pa.ipc.open_stream(one).read_all().to_batches()])


def lock_of(name: str, *more: object) -> Path:
    """The lock under which the first process of a node prepares the list of this name."""
    digest = hashlib.blake2b(repr((name, os.getcwd(), *more)).encode(), digest_size=16)
    return cache_directory() / f"{digest.hexdigest()}.lock"
