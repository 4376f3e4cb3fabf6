"""Which columns of a data set make its tasks: the configuration's `data.columns`, also used by `edit-r1 data`."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from edit_r1.shared.config import ConfigModel
from edit_r1.shared.fields import Names


class Columns(ConfigModel):
    """The columns that a task is read from; the others are ignored. `a.b` is the field `b` of the column `a`."""

    prompt: str = "prompt"
    """Column of the instruction."""
    image: Names = Field(default=("image",), min_length=1)
    """Column of the source images: pictures or paths, one or a list in each row. Of several columns, those with a
    value in the row are its sources, in order."""
    requirement: str | None = None
    """Column of the text that replaces the judge's task prompt; None when there is none."""
    task: str | None = None
    """Column of the task type, which selects the judge's task prompt; None when there is none."""
    metadata: Names = ()
    """Columns kept as metadata for evaluation metrics."""

    def named(self) -> Iterator[tuple[str, str]]:
        """(key, column) for every column in use."""
        for key, value in self:
            yield from ((key, column) for column in ((value,) if isinstance(value, str) else value or ()))
