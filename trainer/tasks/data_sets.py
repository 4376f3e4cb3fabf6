"""Opens task lists that the `datasets` library reads, memory-mapped: parquet and Arrow files, WebDataset shards, data
sets saved by `save_to_disk`, directories laid out like a Hub repository, and data sets of the Hub.

The library converts files to Arrow once and keeps them in its cache (HF_DATASETS_CACHE).
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from braceexpand import braceexpand

from edit_r1.shared.errors import DataError
from edit_r1.shared.sources import EmbeddedSource
from edit_r1.trainer.tasks.columns import Columns
from edit_r1.trainer.tasks.list_names import BUILDERS, HUB, directory_and_split, hub_name
from edit_r1.trainer.tasks.row_reading import Picture, reader_for
from edit_r1.trainer.tasks.rows import TaskRow, TaskRows

_ROWS_AT_ONCE = 32
"""Rows read at once: with embedded pictures each may be megabytes."""


class DataSetRows(TaskRows):
    """The rows of a data set."""

    unit = "row"

    def __init__(self, name: str, root: Path | None, columns: Columns | None, key: str) -> None:
        """key: what the user calls `columns`. Raises DataError, and ConfigError for columns that do not exist."""
        self.name = name
        data_set, directory = _open(name)
        self.root = root or directory
        available = list(_names(data_set.data.schema))
        self._reader = reader_for(columns, available, name, key)
        tops = [top for top in data_set.column_names if any(_is_within(used, top) for used in self._reader.names)]
        self._data_set = data_set.select_columns(tops).with_format("arrow")
        self._fingerprint = data_set._fingerprint

    def digest(self) -> str:
        """Of the library's fingerprint and the columns."""
        return hashlib.blake2b(f"{self._fingerprint} {self._reader!r}".encode(), digest_size=16).hexdigest()

    def rows(self) -> Iterator[TaskRow | tuple[int, DataError]]:
        """All rows."""
        number = 0
        for part in self._data_set.iter(_ROWS_AT_ONCE):
            for row in part.to_pylist():
                try:
                    line, pictures = self._reader.line(row)
                    yield TaskRow(number, line, self._sources(number, pictures))
                except DataError as error:
                    yield number, error
                number += 1

    def embedded(self, row: int, index: int) -> EmbeddedSource:
        """The embedded picture that is source number `index` of a row."""
        return EmbeddedSource(f"{self.name} row {row}, source {index + 1}", partial(self._bytes, row, index))

    def _sources(self, row: int, pictures: Sequence[Picture]) -> tuple[EmbeddedSource | None, ...]:
        return tuple(None if one.data is None else self.embedded(row, index) for index, one in enumerate(pictures))

    def _bytes(self, row: int, index: int) -> bytes:
        values = self._data_set[row : row + 1].to_pylist()[0]
        return self._reader.pictures(values)[index].data or b""


def _open(name: str) -> tuple[datasets.Dataset, Path]:
    """The data set, and the directory that paths in it are relative to. Raises DataError."""
    datasets.disable_progress_bars()
    try:
        if name.startswith(HUB):
            return _from_hub(name), Path()
        if (builder := BUILDERS.get(Path(name).suffix)) is not None:
            files = sorted(file for one in braceexpand(name) for file in glob.glob(one))
            if not files:
                raise DataError(f"cannot read task list {name}: no such file")
            return datasets.load_dataset(builder, data_files=files, split="train"), Path(files[0]).parent
        directory, split = directory_and_split(name)
        return _from_directory(directory, split), directory
    except (OSError, ValueError, datasets.exceptions.DatasetsError, pa.ArrowException) as error:
        reason = error.__cause__ if isinstance(error, datasets.exceptions.DatasetGenerationError) else error
        raise DataError(f"cannot read task list {name}: {reason}") from error


def _from_hub(name: str) -> datasets.Dataset:
    hub = hub_name(name)
    loaded = datasets.load_dataset(hub.path, hub.subset, split=hub.split, revision=hub.revision)
    return _only(loaded, name)


def _from_directory(directory: Path, split: str | None) -> datasets.Dataset:
    if (directory / "state.json").is_file() or (directory / "dataset_dict.json").is_file():
        saved = datasets.load_from_disk(directory)
        return saved if isinstance(saved, datasets.Dataset) else _only(saved, str(directory), split)
    return _only(datasets.load_dataset(str(directory), split=split), str(directory))


def _only(loaded: Any, name: str, split: str | None = None) -> datasets.Dataset:
    """The data set, or its one split. Raises DataError when there are several to choose from."""
    if isinstance(loaded, datasets.Dataset):
        return loaded
    if split is None and len(loaded) == 1:
        return next(iter(loaded.values()))
    if split not in loaded:
        raise DataError(
            f"task list {name}: {'choose a split' if split is None else f'no split {split!r}'}, such as "
            f"{name}:{next(iter(loaded))}; there are {', '.join(loaded)}"
        )
    return loaded[split]


def _names(fields: Any, prefix: str = "") -> Iterator[str]:
    """Names of the columns and of the fields of structs, except those of pictures."""
    for field in fields:
        yield prefix + field.name
        if pa.types.is_struct(field.type) and {one.name for one in field.type} != {"bytes", "path"}:
            yield from _names(field.type, f"{prefix}{field.name}.")


def _is_within(used: str, top: str) -> bool:
    return used == top or used.startswith(f"{top}.")
