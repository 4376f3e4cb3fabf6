"""Task lists and the images they refer to.

A task list is a JSON-lines file with one task per line; image paths are relative to the data root (by default the
file's directory):
    {"prompt": "make the car red", "image": "images/car.png", "requirement": ..., "task": ..., "metadata": {...}}
    {"prompt": "put the hat on the dog", "images": ["dog.png", "hats/7.png"]}
It becomes EditTasks, all checked before any model is loaded; sources are loaded at the size of the edit. Does not
import torch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edit_r1.shared import images
from edit_r1.shared.errors import DataError, ImageError
from edit_r1.trainer.machine import bundled_files
from edit_r1.trainer.mathematics.sizes import ChooseSize, ImageSize
from edit_r1.trainer.types import EditTask

_FAULTS_SHOWN = 10
_SIZES_LOOKED_AT = 1000


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
        """Paths of the source images as given in the line."""
        given = self.image if self.images is None else self.images
        return [given] if isinstance(given, str) else list(given or ())

    @model_validator(mode="after")
    def _check_images(self) -> TaskLine:
        if (self.image is None) == (self.images is None):
            raise ValueError("give one of image and images")
        return self


def read_task_list(path: Path, root: Path | None = None) -> tuple[EditTask, ...]:
    """Read and check a whole task list; image paths are relative to `root`, by default to the list's directory.

    Raises DataError for an unreadable or empty list, an invalid line or a missing image file; the message lists up to
    ten errors with their line numbers.
    """
    path = bundled_files.find_path(path)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: U+2028 in a prompt is not a line end
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read task list {path}: {error}") from error
    tasks: list[EditTask] = []
    faults: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            tasks.append(_parse_line(line, root or path.parent))
        except DataError as error:
            faults.append(f"  line {number}: {error}")
    if faults:
        more = [f"  and {len(faults) - _FAULTS_SHOWN} more"] if len(faults) > _FAULTS_SHOWN else []
        raise DataError("\n".join([f"task list {path} is not valid:", *faults[:_FAULTS_SHOWN], *more]))
    if not tasks:
        raise DataError(f"task list {path} is empty")
    return tuple(tasks)


def describe_faults(model: type[BaseModel], error: ValidationError) -> str:
    """One-line description of why a line is not a valid `model`: every invalid field."""
    return "; ".join(_describe(model, fault["loc"], fault["msg"]) for fault in error.errors())


def describe_tasks(tasks: Sequence[EditTask]) -> str:
    """One-line summary: number of tasks by type, number and sizes of images, length of the texts."""
    paths = sorted({path for task in tasks for path in task.source_paths})
    sizes = sorted({image_size(path) for path in paths[:_SIZES_LOOKED_AT]}, key=lambda size: size[0] * size[1])
    types = Counter(task.task for task in tasks if task.task is not None).most_common()
    num_sources = sorted({len(task.source_paths) for task in tasks})
    words = sorted(len(task.instruction.split()) for task in tasks)
    parts = [
        f"{len(tasks)} tasks" + (f" ({', '.join(f'{name} {count}' for name, count in types)})" if types else ""),
        f"{len(paths)} images of {_span([f'{width}x{height}' for width, height in sizes])}",
        f"sources per task: {_span([str(count) for count in num_sources])}",
        f"words per instruction: {_span([str(words[0]), str(words[-1])])}",
    ]
    if num_repeated := len(tasks) - len({task.id for task in tasks}):
        parts.append(f"repeated lines: {num_repeated}")
    if num_own := sum(task.requirement is not None for task in tasks):
        parts.append(f"with own requirement: {num_own}")
    return ", ".join(parts)


def _span(ordered: Sequence[str]) -> str:
    return ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"


def image_size(path: Path) -> ImageSize:
    """Size of an upright image, read from its header. Raises DataError naming the file."""
    try:
        return images.upright_size(path)
    except (OSError, ImageError) as error:
        raise DataError(f"image {path}: {error}") from error


def load_sources(task: EditTask, choose_size: ChooseSize) -> tuple[Image.Image, ...]:
    """Load the task's source images as RGB, each `resized`. Raises DataError naming the file."""
    return tuple(resized(open_picture(path), choose_size) for path in task.source_paths)


def open_picture(path: Path) -> Image.Image:
    """Open an image upright as RGB. Raises DataError naming the file."""
    try:
        return images.decode(path.read_bytes())
    except (OSError, ImageError) as error:
        raise DataError(f"image {path}: {error}") from error


def resized(image: Image.Image, choose_size: ChooseSize) -> Image.Image:
    """The image at the size that `choose_size` gives for its own: its centre if `choose_size` crops, else all of it."""
    size = choose_size(image.size)
    if image.size == size:
        return image
    if choose_size.crops:
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    return image.resize(size, Image.Resampling.LANCZOS)


def _parse_line(line: str, directory: Path) -> EditTask:
    try:
        parsed = TaskLine.model_validate_json(line)
    except ValidationError as error:
        raise DataError(describe_faults(TaskLine, error)) from error
    names = parsed.names
    for name in names:
        if not (directory / name).is_file():
            raise DataError(f"image file {directory / name} does not exist")
    return EditTask(
        id=_task_id(parsed, names),
        instruction=parsed.prompt,
        source_paths=tuple(directory / name for name in names),
        requirement=parsed.requirement,
        task=parsed.task,
        metadata=parsed.metadata,
    )


def _describe(model: type[BaseModel], location: tuple[int | str, ...], message: str) -> str:
    name = ".".join(map(str, location))
    message = message.removeprefix("Value error, ")
    if message == "Extra inputs are not permitted":
        known = ", ".join(model.model_fields)
        return f"unknown key {name!r}; known: {known} (put anything else under metadata)"
    return f"{name}: {message}" if name else message


def _task_id(parsed: TaskLine, names: Sequence[str]) -> str:
    key = "\0".join([*names, parsed.prompt, parsed.requirement or ""])
    return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
