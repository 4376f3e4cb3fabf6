"""Reads the rows of a task list one by one, whatever it is stored in: JSON lines here, data sets in `data_sets`.

Each row is a task line with its embedded pictures, or the error that makes it none. Files are not looked at.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edit_r1.shared.errors import DataError
from edit_r1.shared.sources import EmbeddedSource, FileSource, Source
from edit_r1.trainer.tasks.columns import Columns
from edit_r1.trainer.tasks.row_reading import RowReader, check_columns, nested_names
from edit_r1.trainer.tasks.task_line import TaskLine, parse_line

FAULTS_SHOWN = 10
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class TaskRow:
    """One task of a list, as it is written there."""

    number: int
    """Of the line from 1, or of the row from 0, as the `datasets` library counts."""
    line: TaskLine
    embedded: tuple[EmbeddedSource | None, ...]
    """One per source; None where it is a file."""

    def sources(self, root: Path) -> tuple[Source, ...]:
        """The source images; paths are relative to `root`."""
        return tuple(one or FileSource(root / name) for name, one in zip(self.line.names, self.embedded, strict=True))


class TaskRows(ABC):
    """The rows of a task list."""

    name: str
    """The list, as the user calls it."""
    root: Path
    """Directory that image paths are relative to."""
    unit: str
    """What a row is called in messages."""

    @abstractmethod
    def digest(self) -> str:
        """Changes when the list's content changes, or the columns in use."""

    @abstractmethod
    def rows(self) -> Iterator[TaskRow | tuple[int, DataError]]:
        """The rows in order, or their number and what is wrong with them. Raises DataError or ConfigError."""

    @abstractmethod
    def embedded(self, row: int, index: int) -> EmbeddedSource:
        """The embedded picture that is source number `index` of a row, as in its TaskRow."""


class JsonLines(TaskRows):
    """A file of JSON lines: our own, or with other keys when `columns` are given."""

    unit = "line"

    def __init__(self, path: Path, root: Path | None, columns: Columns | None, key: str) -> None:
        """key: what the user calls `columns`, for messages."""
        self.name, self.root = str(path), root or path.parent
        self._path, self._columns, self._key = path, columns, key

    def digest(self) -> str:
        """Of the file's bytes and the columns."""
        digest = hashlib.blake2b(repr(self._columns).encode(), digest_size=16)
        try:
            with self._path.open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
        except OSError as error:
            raise self._unreadable(error) from error
        return digest.hexdigest()

    def rows(self) -> Iterator[TaskRow | tuple[int, DataError]]:
        """The non-blank lines, read one by one."""
        keys: set[str] = set()
        try:
            with self._path.open("rb") as file:
                for number, data in enumerate(file, start=1):
                    line = data.removeprefix(_BYTE_ORDER_MARK) if number == 1 else data
                    if not line.strip():
                        continue
                    try:
                        task = parse_line(line) if self._columns is None else self._read(line, self._columns, keys)
                        yield TaskRow(number, task, (None,) * len(task.names))
                    except DataError as error:
                        yield number, error
        except OSError as error:
            raise self._unreadable(error) from error
        if self._columns is not None and keys:
            check_columns(self._columns, keys, self.name, self._key)

    def embedded(self, row: int, index: int) -> EmbeddedSource:
        """A line has only paths."""
        raise AssertionError(f"line {row} of {self.name} has no embedded picture {index}")

    def _read(self, line: bytes, columns: Columns, keys: set[str]) -> TaskLine:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"expected an object, found a {type(row).__name__}")
        keys.update(nested_names(row))
        return RowReader(columns).line(row)[0]

    def _unreadable(self, error: OSError) -> DataError:
        return DataError(f"cannot read task list {self.name}: {error}")


def valid_rows(
    rows: TaskRows, fault_of: Callable[[TaskRow, Path], DataError | None] = lambda _row, _root: None
) -> Iterator[TaskRow]:
    """The rows up to the first invalid one. `fault_of` may find more that is wrong with a row, given the root.

    Raises DataError at the end when any was invalid, listing the first ten with their numbers, or when there are none.
    """
    faults: list[str] = []
    num_faults, is_empty = 0, True
    for row in rows.rows():
        is_empty = False
        number, fault = (row.number, fault_of(row, rows.root)) if isinstance(row, TaskRow) else row
        if fault is not None:
            num_faults += 1
            if num_faults <= FAULTS_SHOWN:
                faults.append(f"  {rows.unit} {number}: {fault}")
        elif isinstance(row, TaskRow) and not num_faults:
            yield row
    if num_faults:
        more = [f"  and {num_faults - FAULTS_SHOWN} more"] if num_faults > FAULTS_SHOWN else []
        raise DataError("\n".join([f"task list {rows.name} is not valid:", *faults, *more]))
    if is_empty:
        raise DataError(f"task list {rows.name} is empty")
