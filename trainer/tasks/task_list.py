"""Task lists: EditTasks of a file of JSON lines or of a data set, all checked before any model is loaded.

A list is read and checked once a node and kept as an Arrow table in a cache (`task_table`); each process maps it and
builds a task when it is asked for. Image paths are relative to the data root, by default the list's directory.
Does not import torch.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from PIL import Image, ImageOps

from edit_r1.shared.errors import DataError
from edit_r1.shared.files import write_json
from edit_r1.shared.sources import FileSource, Source
from edit_r1.trainer.machine import bundled_files
from edit_r1.trainer.machine.turns import local_main_first
from edit_r1.trainer.mathematics.sizes import ChooseSize
from edit_r1.trainer.tasks.columns import Columns
from edit_r1.trainer.tasks.list_names import is_data_set
from edit_r1.trainer.tasks.rows import JsonLines, TaskRows
from edit_r1.trainer.tasks.task_summary import TaskSummary, summarise
from edit_r1.trainer.tasks.task_table import TaskTable, is_built, lock_of, open_table, table_directory
from edit_r1.trainer.types import EditTask

_SUMMARY = "summary.json"
_LOOKED_FOR = 1000
"""Tasks of a checked list, at most, whose image files are looked for again."""
_KEPT = 4
"""How many times as many instructions as asked for are kept in memory."""


class TaskList(Sequence[EditTask]):
    """The tasks of a list, each built when it is asked for; a slice is a list too."""

    def __init__(self, table: TaskTable, rows: TaskRows, summary_path: Path | None = None) -> None:
        """summary_path: where the summary of the whole table is kept."""
        self._table, self._rows, self._summary_path = table, rows, summary_path

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, index: int) -> EditTask: ...
    @overload
    def __getitem__(self, index: slice) -> TaskList: ...
    def __getitem__(self, index: int | slice) -> EditTask | TaskList:
        places = range(len(self))[index]  # raises IndexError, and makes negative places positive
        if isinstance(places, int):
            return self._task(self._table.row(places))
        if places.step != 1:
            raise IndexError("a slice of a task list must have step 1")
        if len(places) == len(self):
            return self
        return TaskList(self._table.part(places.start, places.stop), self._rows)

    def instructions(self) -> Iterator[str]:
        """The instructions in order, without building tasks."""
        return (text for part in self._table.column("prompt") for text in part.to_pylist())

    @cached_property
    def summary(self) -> TaskSummary:
        """What the list has: counts, sizes, lengths. Raises DataError for an unreadable image."""
        path = self._summary_path
        if path is None:
            return summarise(self._table, self)
        if not path.is_file():
            with local_main_first(path.with_suffix(".lock")):
                if not path.is_file():
                    write_json(path, summarise(self._table, self).model_dump(mode="json"))
        return TaskSummary.model_validate_json(path.read_bytes())

    def _task(self, row: dict[str, Any]) -> EditTask:
        return EditTask(
            id=row["id"],
            instruction=row["prompt"],
            sources=tuple(self._source(row["row"], index, **one) for index, one in enumerate(row["sources"])),
            requirement=row["requirement"],
            task=row["task"],
            metadata=json.loads(row["metadata"] or "{}"),
        )

    def _source(self, row: int, index: int, *, name: str, embedded: bool) -> Source:
        return self._rows.embedded(row, index) if embedded else FileSource(self._rows.root / name)


def read_task_list(
    name: str | Path, root: Path | None = None, columns: Columns | None = None, *, key: str = "data.columns"
) -> TaskList:
    """Read and check a whole task list, or find it checked in the cache.

    Args:
        name: a file of JSON lines, or a data set (`trainer.tasks.list_names`).
        root: what image paths are relative to; by default the list's directory.
        columns: the columns that make tasks; None means our own names.
        key: what the user calls `columns`, for messages.

    Raises:
        DataError: an unreadable or empty list, invalid rows or missing image files; the message lists up to ten, with
            the numbers of their lines or rows.
        ConfigError: a column does not exist.

    """
    name = bundled_files.find(str(name))
    if not is_data_set(name):  # known by its bytes alone: nobody has to go first when it is in the cache
        rows = open_rows(name, root, columns, key=key)
        if (found := _find_checked(rows, table_directory(rows))) is not None:
            return found
    with local_main_first(lock_of(name, root, columns)):
        rows = open_rows(name, root, columns, key=key)
        directory = table_directory(rows)
        if (found := _find_checked(rows, directory)) is not None:
            return found
        from edit_r1.trainer.tasks.index_builder import build_table  # noqa: PLC0415 - imports `datasets`

        shutil.rmtree(directory, ignore_errors=True)
        build_table(rows, directory)
        return TaskList(open_table(directory), rows, directory / _SUMMARY)


def _find_checked(rows: TaskRows, directory: Path) -> TaskList | None:
    """The list from the cache; None when it is not there, or when files that it refers to have gone.

    Of a long list, only some files are looked for, which takes no time and finds a directory that was moved.
    """
    if not is_built(directory):
        return None
    table = open_table(directory)
    some = range(0, len(table), 1 + len(table) // _LOOKED_FOR)
    named = (source for index in some for source in table.row(index)["sources"] if not source["embedded"])
    if not all((rows.root / source["name"]).is_file() for source in named):
        return None
    return TaskList(table, rows, directory / _SUMMARY)


def open_rows(name: str, root: Path | None = None, columns: Columns | None = None, *, key: str) -> TaskRows:
    """The unchecked rows of a list; see `read_task_list`. Raises DataError or ConfigError."""
    if not is_data_set(name):
        return JsonLines(Path(name), root, columns, key)
    try:
        from edit_r1.trainer.tasks.data_sets import DataSetRows  # noqa: PLC0415 - imports `datasets`
    except ModuleNotFoundError as error:
        raise DataError(f"reading {name} needs {error.name}; install the extra `trainer` (or `cpu`)") from error
    return DataSetRows(name, root, columns, key)


def describe_tasks(tasks: TaskList) -> str:
    """One-line summary: number of tasks by type, number and sizes of images, length of the texts."""
    return tasks.summary.describe()


def longest_instructions(tasks: TaskList, more: Sequence[EditTask], count: int = 10_000) -> list[str]:
    """The longest instructions of a list and of `more` tasks, without repeats, longest first.

    By default enough to find any that a text encoder would truncate, without tokenizing a million.
    """
    found = {task.instruction for task in more}
    for text in tasks.instructions():
        found.add(text)
        if len(found) >= _KEPT * count:
            found = set(_longest(found, count))
    return _longest(found, count)


def _longest(texts: Iterable[str], count: int) -> list[str]:
    return sorted(texts, key=lambda text: (-len(text), text))[:count]


def load_sources(task: EditTask, choose_size: ChooseSize) -> tuple[Image.Image, ...]:
    """Load the task's source images as RGB, each `resized`. Raises DataError naming the source."""
    return tuple(resized(source.open(), choose_size) for source in task.sources)


def resized(image: Image.Image, choose_size: ChooseSize) -> Image.Image:
    """The image at the size that `choose_size` gives for its own: its centre if `choose_size` crops, else all of it."""
    size = choose_size(image.size)
    if image.size == size:
        return image
    if choose_size.crops:
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    return image.resize(size, Image.Resampling.LANCZOS)
