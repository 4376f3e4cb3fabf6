"""One line of a task list, as it is written, and its id.

{"prompt": "make the car red", "image": "images/car.png", "requirement": ..., "task": ..., "metadata": {...}}
{"prompt": "put the hat on the dog", "images": ["dog.png", "hats/7.png"]}
"""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edit_r1.shared.errors import DataError


class TaskLine(BaseModel):
    """One line of a task list."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    prompt: str = Field(min_length=1)
    image: str | list[str] | None = Field(default=None, min_length=1)
    images: list[str] | None = Field(default=None, min_length=1)
    requirement: str | None = Field(default=None, min_length=1)
    task: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Source images as given in the line: paths; for embedded pictures, hashes of their bytes."""
        given = self.image if self.images is None else self.images
        return [given] if isinstance(given, str) else list(given or ())

    @property
    def id(self) -> str:
        """Digest of sources, instruction and requirement."""
        key = "\0".join([*self.names, self.prompt, self.requirement or ""])
        return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()

    @model_validator(mode="after")
    def _check_images(self) -> TaskLine:
        if (self.image is None) == (self.images is None):
            raise ValueError("give one of image and images")
        return self


def parse_line(text: str | bytes) -> TaskLine:
    """Parse a line of JSON. Raises DataError naming every invalid field."""
    try:
        return TaskLine.model_validate_json(text)
    except ValidationError as error:
        raise DataError(describe_faults(TaskLine, error)) from error


def describe_faults(model: type[BaseModel], error: ValidationError) -> str:
    """One-line description of why a line is not a valid `model`: every invalid field."""
    return "; ".join(_describe(model, fault["loc"], fault["msg"]) for fault in error.errors())


def _describe(model: type[BaseModel], location: tuple[int | str, ...], message: str) -> str:
    name = ".".join(map(str, location))
    message = message.removeprefix("Value error, ")
    if message == "Extra inputs are not permitted":
        known = ", ".join(model.model_fields)
        return f"unknown key {name!r}; known: {known} (put anything else under metadata)"
    return f"{name}: {message}" if name else message
