"""Input lists: validated in full before use, then read line by line.

Validation returns the file's hash and number of lines, or raises one DataError with up to ten errors. Lines can be read
from any position on, so that an interrupted command can resume.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from edit_r1.shared.errors import DataError
from edit_r1.trainer.tasks.task_line import describe_faults

_FAULTS_SHOWN = 10
T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Line(Generic[T]):
    """One line of a list."""

    number: int
    """Line number from 1; blank lines count but are skipped."""
    text: str
    """The raw text, which seeds random choices."""
    value: T
    offset: int
    """Byte offset of the line."""


@dataclass(frozen=True)
class Examined:
    """Summary of a validated list."""

    digest: str
    num_lines: int


class InputList(Generic[T]):
    """A list on disk whose lines are read by `parse`, which raises DataError for an invalid line."""

    def __init__(self, path: Path, parse: Callable[[str], T]) -> None:
        self.path = path
        self._parse = parse

    def examine(self) -> Examined:
        """Check every line. Raises DataError naming file, lines and fields."""
        digest = hashlib.blake2b(digest_size=16)
        faults: list[str] = []
        num_faults = num_lines = 0
        for number, offset, data in self._raw():
            digest.update(data)
            try:
                num_lines += self._read(number, offset, data) is not None
            except DataError as error:
                num_faults += 1
                if num_faults <= _FAULTS_SHOWN:
                    faults.append(f"  line {number}: {error}")
        if num_faults:
            more = [f"  and {num_faults - _FAULTS_SHOWN} more"] if num_faults > _FAULTS_SHOWN else []
            raise DataError("\n".join([f"{self.path} is not valid:", *faults, *more]))
        if not num_lines:
            raise DataError(f"{self.path} is empty")
        return Examined(digest.hexdigest(), num_lines)

    def lines(self, start: int = 0) -> Iterator[Line[T]]:
        """The non-blank lines, from the `start`-th on."""
        full = ((number, offset, data) for number, offset, data in self._raw() if data.strip())
        read = (self._read(*one) for one in itertools.islice(full, start, None))
        return (line for line in read if line is not None)

    def at(self, offset: int) -> T:
        """The line at this byte offset."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return self._parse(file.readline().decode("utf-8-sig").strip())

    def _raw(self) -> Iterator[tuple[int, int, bytes]]:
        offset = 0
        try:
            with self.path.open("rb") as file:
                for number, data in enumerate(file, start=1):
                    yield number, offset, data
                    offset += len(data)
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror}") from error

    def _read(self, number: int, offset: int, data: bytes) -> Line[T] | None:
        """None for a blank line."""
        try:
            text = data.decode("utf-8-sig").strip()  # a byte order mark, as Windows writes it
        except UnicodeDecodeError as error:
            raise DataError(f"not UTF-8: {error}") from error
        return Line(number, text, self._parse(text), offset) if text else None


def as_model(model: type[Model]) -> Callable[[str], Model]:
    """A parser for lines that are JSON objects of this model."""

    def parse(text: str) -> Model:
        try:
            return model.model_validate_json(text)
        except ValidationError as error:
            raise DataError(describe_faults(model, error)) from error

    return parse
