"""Input lists: examined once from end to end before anything is made of them, then read line by line.

A file enters; its hash and number of lines leave, or one DataError with up to ten faults; and then its lines, from any
one on, so that a command that was stopped goes on where it was.
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
from edit_r1.trainer.tasks.task_list import describe_faults

_FAULTS_SHOWN = 10
T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Line(Generic[T]):
    """One line of a list."""

    number: int
    """Counted from 1; blank lines count, but are not read."""
    text: str
    """As it stands in the file: random choices are seeded by it."""
    value: T
    offset: int
    """Bytes before it."""


@dataclass(frozen=True)
class Examined:
    """What a whole list is."""

    digest: str
    num_lines: int


class InputList(Generic[T]):
    """A list on disk whose lines `parse` reads; `parse` raises DataError for what is no such line."""

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
            raise DataError(f"{self.path} holds no line")
        return Examined(digest.hexdigest(), num_lines)

    def lines(self, start: int = 0) -> Iterator[Line[T]]:
        """The lines that are not blank, from the `start`-th of them on."""
        full = ((number, offset, data) for number, offset, data in self._raw() if data.strip())
        read = (self._read(*one) for one in itertools.islice(full, start, None))
        return (line for line in read if line is not None)

    def at(self, offset: int) -> T:
        """The line that begins there."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return self._parse(file.readline().decode().strip())

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
            text = data.decode().strip()
        except UnicodeDecodeError as error:
            raise DataError(f"not UTF-8: {error}") from error
        return Line(number, text, self._parse(text), offset) if text else None


def as_model(model: type[Model]) -> Callable[[str], Model]:
    """Reads a line as one object of this model."""

    def parse(text: str) -> Model:
        try:
            return model.model_validate_json(text)
        except ValidationError as error:
            raise DataError(describe_faults(model, error)) from error

    return parse
