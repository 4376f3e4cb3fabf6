"""Line formats of the commands' inputs: annotated objects, annotated words; task lines are `TaskLine`s.

    {"image": "a.jpg", "width": 640, "height": 480, "objects": [{"label": "dog", "box": [10, 20, 200, 300]}]}
    {"image": "b.jpg", "words": [{"text": "SALE", "box": [30, 40, 120, 80]}]}

Boxes are [x0, y0, x1, y1] in pixels of the upright image, x1 and y1 exclusive. `width` and `height` are the size at
which it was annotated, by default the size in the image's header. Image paths are relative to the list.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from edit_r1.trainer.tasks.task_line import TaskLine

Coordinate = Annotated[float, Field(allow_inf_nan=False)]
Box = tuple[Coordinate, Coordinate, Coordinate, Coordinate]
TASK_TYPES = (
    "replace",
    "adjust",
    "remove",
    "background",
    "hybrid",
    "action",
    "text_edit",
    "redbox_control",
    "reference",
    "extract",
    "add",
)
"""Types with a task prompt in the reward service: the paper's (it counts nine and lists these ten), and `add`."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class LabelledBox(_Record):
    """An annotated object in an image."""

    label: str = Field(min_length=1)
    box: Box


class Word(_Record):
    """A word shown in an image, with its box when known."""

    text: str = Field(min_length=1)
    box: Box | None = None


class PictureLine(_Record):
    """Common fields of all annotated images."""

    image: str = Field(min_length=1)
    width: int | None = Field(default=None, ge=1)
    height: int | None = Field(default=None, ge=1)
    metadata: dict[str, Any] = Field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) at which the image was annotated; None when not given."""
        return None if self.width is None or self.height is None else (self.width, self.height)


class ObjectsLine(PictureLine):
    """An image and its objects."""

    objects: tuple[LabelledBox, ...]


class WordsLine(PictureLine):
    """An image and its words."""

    words: tuple[Word, ...]


def to_text(line: BaseModel) -> str:
    """Serialise a line without the fields that were not set; ASCII, so that no reader splits it early."""
    return json.dumps(line.model_dump(mode="json", exclude_none=True, exclude_unset=True))


def renamed(line: TaskLine, rename: Callable[[str], str]) -> str:
    """Serialise a task for another list, in which its images have other names."""
    if line.images is not None:
        return to_text(line.model_copy(update={"images": list(map(rename, line.images))}))
    names: str | list[str] = rename(line.image) if isinstance(line.image, str) else list(map(rename, line.names))
    return to_text(line.model_copy(update={"image": names}))
