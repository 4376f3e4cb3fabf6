"""`edit-r1 data boxes`: keeps objects that are neither too small to see nor most of the image.

For annotated images it keeps the objects within the limits; for tasks with annotated objects under `metadata.objects`
it keeps the tasks all of whose objects are. Source: arXiv:2510.16888, Section 3.1 (which gives no limits; the defaults
are ours).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from edit_r1.shared.errors import ConfigError, DataError
from edit_r1.trainer.tasks.task_line import TaskLine, describe_faults
from edit_r1.workbench.data_prep.formats import LabelledBox, ObjectsLine, renamed, to_text
from edit_r1.workbench.data_prep.geometry import Box, Size, area_fraction, clip
from edit_r1.workbench.data_prep.input_lists import Line, as_model
from edit_r1.workbench.data_prep.pictures import Renaming, upright_size
from edit_r1.workbench.data_prep.resumable_jobs import Outcome

TOO_SMALL, TOO_LARGE = "object below the minimum area", "object above the maximum area"
OUTSIDE = "object empty or outside its image"
NONE_LEFT, OBJECT_DROPPED = "image with no objects left", "task with a dropped object"


class _Annotations(BaseModel):
    objects: tuple[LabelledBox, ...]


class AnnotatedTask(BaseModel):
    """A task and its annotated objects."""

    task: TaskLine
    objects: tuple[LabelledBox, ...]


@dataclass(frozen=True)
class AreaLimits:
    """Minimum and maximum box area as fractions of the image, inclusive."""

    minimum: float
    maximum: float

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= self.maximum <= 1:
            raise ConfigError(
                f"areas must satisfy 0 <= minimum <= maximum <= 1, got {self.minimum:g} and {self.maximum:g}"
            )

    def why_not(self, box: Box, size: Size) -> str | None:
        """The reason to drop a box; None when it is within the limits."""
        inside = clip(box, size)
        if inside is None:
            return OUTSIDE
        share = area_fraction(inside, size)
        if share < self.minimum:
            return TOO_SMALL
        return TOO_LARGE if share > self.maximum else None


def parse(text: str) -> ObjectsLine | AnnotatedTask:
    """Parse a line of either kind; one with a prompt is a task. Raises DataError."""
    try:
        data: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"not JSON: {error}") from error
    if not isinstance(data, dict) or "prompt" not in data:
        return as_model(ObjectsLine)(text)
    task = as_model(TaskLine)(text)
    try:
        return AnnotatedTask(task=task, objects=_Annotations.model_validate(task.metadata).objects)
    except ValidationError as error:
        raise DataError(f"metadata: {describe_faults(_Annotations, error)}") from error


def keep(line: Line[ObjectsLine | AnnotatedTask], limits: AreaLimits, directory: Path, rename: Renaming) -> Outcome:
    """Filter one line; `directory` is the directory of the list."""
    value = line.value
    name = value.image if isinstance(value, ObjectsLine) else value.task.names[0]
    size = value.size if isinstance(value, ObjectsLine) else None
    try:
        reasons = _reasons(value.objects, limits, size or upright_size(directory / name))
    except DataError as error:
        return Outcome(dropped=(str(error),))
    dropped = tuple(reason for reason in reasons if reason)
    if isinstance(value, AnnotatedTask):
        if dropped:
            return Outcome(dropped=(*dropped, OBJECT_DROPPED))
        return Outcome((renamed(value.task, rename),))
    objects = tuple(found for found, reason in zip(value.objects, reasons, strict=True) if reason is None)
    if not objects:
        return Outcome(dropped=(*dropped, NONE_LEFT))
    kept = value.model_copy(update={"image": rename(value.image), "objects": objects})
    return Outcome((to_text(kept),), dropped)


def _reasons(objects: Sequence[LabelledBox], limits: AreaLimits, size: Size) -> list[str | None]:
    return [limits.why_not(found.box, size) for found in objects]
