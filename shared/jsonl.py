"""Files of JSON lines: read line by line, whatever is wrong told with file, line and field; and grown, line by line."""

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
    """(`file:line`, object) of every line that is not blank, one after another. Raises DataError."""
    for place, row in read_rows(path):
        try:
            yield place, model.model_validate(row)
        except ValidationError as error:
            raise DataError(f"{place}: {fault_line(error.errors()[0], 'line')}") from error


def read_rows(path: Path, *, growing: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same where the fields are not known beforehand. Raises DataError.

    growing: its writer may be at work, or have died: a last line without an end is left out.
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
                raise DataError(f"{place}: an object is expected, found a {type(row).__name__}")
            yield place, row


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write or replace a file, at once."""
    with whole_file(path) as file:
        file.writelines(map(_line, rows))


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add lines to the end of a file, in one piece."""
    with path.open("ab") as file:
        file.write(b"".join(map(_line, rows)))


def cut_torn_end(path: Path) -> None:
    """Remove a last line that was being written when its process died, so that the next one has a line of its own."""
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def _line(row: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(row, ensure_ascii=False)}\n".encode()
