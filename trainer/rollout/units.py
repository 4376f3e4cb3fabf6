"""Divides task groups into units of work: the parts of groups that are generated in one batch."""

from __future__ import annotations

from collections.abc import Sequence

from edit_r1.trainer.mathematics.dealing import part_ranges
from edit_r1.trainer.types import GroupPart, TaskGroup

Unit = tuple[GroupPart, ...]
"""The same part of consecutive groups."""


def units_of(groups: Sequence[TaskGroup], *, group_size: int, batch_groups: int, parts: int) -> list[Unit]:
    """All units of these groups, `batch_groups` groups at a time, each group's candidates divided into `parts`.

    A unit's number is the place of its first candidate in the epoch, so it is unique also among groups that are added
    to the epoch later.
    """
    batches = [groups[start : start + batch_groups] for start in range(0, len(groups), batch_groups)]
    return [
        tuple(GroupPart(group, candidates, batch[0].index * group_size + candidates.start) for group in batch)
        for batch in batches
        for candidates in part_ranges(group_size, parts)
    ]
