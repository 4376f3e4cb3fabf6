"""Builds the Arrow table of a task list with the `datasets` library: each row parsed and checked once a node.

The library locks the cache directory, so of several processes one builds and the others find the result; a table is
moved there whole, or not at all.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from edit_r1.shared.errors import DataError, EditR1Error
from edit_r1.trainer.tasks.rows import TaskRow, TaskRows, valid_rows

_BATCH_ROWS = 10_000
_SOURCE = datasets.Features({"name": datasets.Value("string"), "embedded": datasets.Value("bool")})
FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "row": datasets.Value("int64"),
        "prompt": datasets.Value("string"),
        "sources": datasets.List(dict(_SOURCE)),
        "requirement": datasets.Value("string"),
        "task": datasets.Value("string"),
        "metadata": datasets.Value("string"),
    }
)


class _Builder(datasets.ArrowBasedBuilder):  # type: ignore[misc]
    """Writes the tasks of `task_rows`, 10,000 at a time."""

    task_rows: TaskRows

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=FEATURES)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:  # noqa: ARG002 - the library's
        return [datasets.SplitGenerator(name="tasks")]

    def _generate_tables(self) -> Iterator[tuple[datasets.builder.Key, pa.Table]]:
        values = map(_values, valid_rows(self.task_rows, _missing_file))
        for number in itertools.count():
            if not (batch := list(itertools.islice(values, _BATCH_ROWS))):
                return
            yield datasets.builder.Key(0, number), pa.Table.from_pylist(batch, schema=FEATURES.arrow_schema)


def build_table(rows: TaskRows, directory: Path) -> None:
    """Write the list's table into `directory`, unless it is there. Raises DataError or ConfigError.

    A DataError for invalid rows or missing image files lists the first ten.
    """
    datasets.disable_progress_bars()
    builder = _Builder(cache_dir=str(directory.parent))
    builder.task_rows = rows
    try:
        builder.download_and_prepare(str(directory))
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, EditR1Error):
            raise error.__cause__ from None
        raise DataError(f"cannot keep task list {rows.name} in {directory}: {error.__cause__}") from error
    except OSError as error:
        raise DataError(f"cannot keep task list {rows.name} in {directory}: {error}") from error


def _missing_file(row: TaskRow, root: Path) -> DataError | None:
    """What is wrong with a row: a path that is not a file."""
    for name, embedded in zip(row.line.names, row.embedded, strict=True):
        if embedded is None and not os.path.isfile(os.path.join(root, name)):  # Path is slower
            return DataError(f"image file {root / name} does not exist")
    return None


def _values(row: TaskRow) -> dict[str, Any]:
    line = row.line
    return {
        "id": line.id,
        "row": row.number,
        "prompt": line.prompt,
        "sources": [
            {"name": name, "embedded": embedded is not None}
            for name, embedded in zip(line.names, row.embedded, strict=True)
        ],
        "requirement": line.requirement,
        "task": line.task,
        "metadata": json.dumps(line.metadata, ensure_ascii=False, default=str) if line.metadata else None,
    }
