"""Files of JSON lines, each an object of one model; whatever is wrong is told with file, line and field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from shared.errors import DataError, fault_line

Model = TypeVar("Model", bound=BaseModel)


def read_objects(path: Path, model: type[Model]) -> Iterator[tuple[str, Model]]:
    """(`file:line`, object) of every line that is not blank, one after another. Raises DataError."""
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    with path.open(encoding="utf-8") as lines:
        for number, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            place = f"{path}:{number}"
            try:
                yield place, model.model_validate(json.loads(text))
            except json.JSONDecodeError as error:
                raise DataError(f"{place}: not JSON: {error}") from error
            except ValidationError as error:
                raise DataError(f"{place}: {fault_line(error.errors()[0], 'line')}") from error
