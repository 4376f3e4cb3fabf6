"""What a task list has: counts, image sizes, lengths of texts. Computed from its table once and kept beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from edit_r1.trainer.mathematics.sizes import ImageSize
from edit_r1.trainer.tasks.task_table import TaskTable
from edit_r1.trainer.types import EditTask

_SIZES_LOOKED_AT = 1000


class TaskSummary(BaseModel):
    """Counts of one list."""

    model_config = ConfigDict(frozen=True)

    num_tasks: int
    by_type: tuple[tuple[str, int], ...]
    """Tasks by type, most frequent first; those without a type are not counted."""
    num_images: int
    """Different source images."""
    sizes: tuple[ImageSize, ...]
    """Sizes of up to 1,000 of them, smallest area first."""
    num_sources: tuple[int, int]
    """Fewest and most sources of a task."""
    num_words: tuple[int, int]
    """Fewest and most words of an instruction."""
    num_repeated: int
    """Tasks that occurred before in the list."""
    num_with_requirement: int

    def describe(self) -> str:
        """The summary in one line."""
        types = ", ".join(f"{name} {count}" for name, count in self.by_type)
        sizes = [f"{width}x{height}" for width, height in self.sizes]
        parts = [
            f"{self.num_tasks} tasks" + (f" ({types})" if types else ""),
            f"{self.num_images} images of {_span(sizes[0], sizes[-1])}",
            f"sources per task: {_span(*map(str, self.num_sources))}",
            f"words per instruction: {_span(*map(str, self.num_words))}",
        ]
        if self.num_repeated:
            parts.append(f"repeated lines: {self.num_repeated}")
        if self.num_with_requirement:
            parts.append(f"with own requirement: {self.num_with_requirement}")
        return ", ".join(parts)


def summarise(table: TaskTable, tasks: Sequence[EditTask]) -> TaskSummary:
    """Count a list, not empty; `tasks` are those of the table. Raises DataError for an unreadable image."""
    num_tasks = len(table)
    names = pa.chunked_array([pc.struct_field(part.flatten(), "name") for part in table.column("sources")])
    types: Counter[str] = Counter()
    for part in table.column("task"):
        types.update({one["values"]: one["counts"] for one in pc.value_counts(part.drop_null()).to_pylist()})
    return TaskSummary(
        num_tasks=num_tasks,
        by_type=tuple(types.most_common()),
        num_images=pc.count_distinct(names).as_py(),
        sizes=tuple(_sizes(tasks)),
        num_sources=_limits([pc.list_value_length(part) for part in table.column("sources")]),
        num_words=_limits([pc.list_value_length(pc.utf8_split_whitespace(part)) for part in table.column("prompt")]),
        num_repeated=num_tasks - pc.count_distinct(pa.chunked_array(list(table.column("id")))).as_py(),
        num_with_requirement=num_tasks - sum(part.null_count for part in table.column("requirement")),
    )


def _sizes(tasks: Sequence[EditTask]) -> list[ImageSize]:
    """Sizes of the first images, smallest area first."""
    sources = dict.fromkeys(source for task in islice(tasks, _SIZES_LOOKED_AT) for source in task.sources)
    return sorted(
        {source.size() for source in islice(sources, _SIZES_LOOKED_AT)}, key=lambda size: (size[0] * size[1], size)
    )


def _limits(parts: Sequence[pa.Array]) -> tuple[int, int]:
    found = pc.min_max(pa.chunked_array(parts)).as_py()
    return found["min"], found["max"]


def _span(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
