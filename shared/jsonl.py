"""Reads and appends to JSON Lines files; errors are reported with file, line and field."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from edit_r1.shared.errors import DataError, fault_line
from edit_r1.shared.files import whole_file

Model = TypeVar("Model", bound=BaseModel)


def read_objects(path: Path, model: type[Model]) -> Iterator[tuple[str, Model]]:
    """Yields (`file:line`, object) for every non-blank line. Raises DataError."""
    for place, row in read_rows(path):
        try:
            yield place, model.model_validate(row)
        except ValidationError as error:
            raise DataError(f"{place}: {fault_line(error.errors()[0], 'line')}") from error


def read_rows(path: Path, *, growing: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """Like `read_objects`, for rows whose fields are not known in advance. Raises DataError.

    growing: the file may still be written, or its writer may have died: an unterminated last line is skipped.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip() or (growing and not line.endswith(b"\n")):
                continue
            place = f"{path}:{number}"
            try:
                row = json.loads(line.decode())
            except UnicodeDecodeError as error:
                raise DataError(f"{place}: not UTF-8: {error}") from error
            except json.JSONDecodeError as error:
                raise DataError(f"{place}: not JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{place}: expected an object, found a {type(row).__name__}")
            yield place, row


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write or replace a file atomically."""
    with whole_file(path) as file:
        file.writelines(map(_line, rows))


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append lines to a file in a single write."""
    with path.open("ab") as file:
        file.write(b"".join(map(_line, rows)))


def cut_torn_end(path: Path) -> None:
    """Remove an unterminated last line, left by a killed writer, so that the next row starts on a new line."""
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def _line(row: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(row, ensure_ascii=False)}\n".encode()
