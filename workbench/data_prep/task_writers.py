"""Writes task lists: JSON lines with their images beside them, or parquet with the images inside.

Both take tasks one at a time and leave either a complete file or none.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from edit_r1.shared.errors import DataError
from edit_r1.shared.files import whole_file, write_bytes
from edit_r1.shared.images import content_hash, mime_type
from edit_r1.shared.sources import EmbeddedSource, FileSource, Source
from edit_r1.trainer.tasks.task_line import TaskLine
from edit_r1.workbench.data_prep.formats import renamed
from edit_r1.workbench.data_prep.pictures import Renaming

PARQUET = ".parquet"
_ROWS_AT_ONCE = 100
"""Tasks written at once, and thus the rows of a row group: with their images, some tens of MB."""


class TaskWriter(ABC):
    """Writes one list."""

    @abstractmethod
    def add(self, task: TaskLine, sources: Sequence[Source]) -> None:
        """Append a task with its source images. Raises DataError when one cannot be read."""


@contextmanager
def task_writer(out: Path, root: Path) -> Iterator[TaskWriter]:
    """A writer of the format that the name of `out` says; `root` is what the tasks' paths are relative to."""
    with whole_file(out) as file:
        if out.suffix != PARQUET:
            yield _JsonLinesWriter(file, out, root)
            return
        with _ParquetWriter(file) as writer:
            yield writer


class _JsonLinesWriter(TaskWriter):
    """Keeps files where they are, and writes embedded pictures into `OUT_images`, each once."""

    def __init__(self, file: IO[bytes], out: Path, root: Path) -> None:
        self._file, self._out, self._rename = file, out, Renaming(root, out.parent)

    def add(self, task: TaskLine, sources: Sequence[Source]) -> None:
        """Append a line; of an embedded picture it has the name of the new file."""
        names = iter(
            self._saved(source) if isinstance(source, EmbeddedSource) else self._rename(name)
            for name, source in zip(task.names, sources, strict=True)
        )
        self._file.write(f"{renamed(task, lambda _: next(names))}\n".encode())

    def _saved(self, source: EmbeddedSource) -> str:
        data = source.read()
        path = self._out.parent / f"{self._out.stem}_images" / f"{content_hash(data)}.{mime_type(data).split('/')[1]}"
        if not path.exists():
            write_bytes(path, data)
        return path.relative_to(self._out.parent).as_posix()


class _ParquetWriter(TaskWriter):
    """Writes the columns prompt, images, requirement, task and metadata (JSON), which training reads as they are."""

    def __init__(self, file: IO[bytes]) -> None:
        import datasets  # noqa: PLC0415 - takes seconds
        import pyarrow.parquet  # noqa: PLC0415

        text = datasets.Value("string")
        features = {"prompt": text, "images": datasets.List(datasets.Image())}
        features |= dict.fromkeys(("requirement", "task", "metadata"), text)
        self._schema = datasets.Features(features).arrow_schema  # says which columns are images
        self._writer = pyarrow.parquet.ParquetWriter(file, self._schema)
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> _ParquetWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def add(self, task: TaskLine, sources: Sequence[Source]) -> None:
        """Append a row."""
        self._rows.append(
            {
                "prompt": task.prompt,
                "images": [_image(source) for source in sources],
                "requirement": task.requirement,
                "task": task.task,
                "metadata": json.dumps(task.metadata, ensure_ascii=False) if task.metadata else None,
            }
        )
        if len(self._rows) == _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa  # noqa: PLC0415 - with the writer

        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()


def _image(source: Source) -> dict[str, Any]:
    try:
        data = source.read()
    except OSError as error:
        raise DataError(f"image {source.name}: {error}") from error
    return {"bytes": data, "path": source.path.name if isinstance(source, FileSource) else None}
