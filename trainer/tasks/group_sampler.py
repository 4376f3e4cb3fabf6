"""Samples the tasks of each epoch.

From a task list and a seed it draws each epoch's groups, identical on every process and after every resume.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, MutableSequence, Sequence
from dataclasses import dataclass

from edit_r1.shared.errors import DataError
from edit_r1.trainer.types import EditTask, TaskGroup


@dataclass(frozen=True)
class SamplerState:
    """State of a sampler, saved in checkpoints."""

    num_passes: int
    """Completed passes over the list."""
    position: int
    """Tasks of the current pass already used."""
    banned: tuple[str, ...]
    """Sorted ids of tasks that are not sampled again."""


class GroupSampler:
    """Draws each epoch's P tasks in shuffled passes over the list, skipping banned tasks.

    Deterministic in (seed, state) and identical on every process, so each process simply takes its share.
    """

    def __init__(self, tasks: Sequence[EditTask], seed: int) -> None:
        self._tasks = tasks
        self._seed = seed
        self._state = SamplerState(0, 0, ())
        self._shuffled: tuple[int, MutableSequence[int]] | None = None

    @property
    def state(self) -> SamplerState:
        """The position and the ban list."""
        return self._state

    def restore(self, state: SamplerState) -> None:
        """Continue from a checkpoint's state."""
        self._state = state

    def next_groups(self, epoch: int, count: int, start: int = 0) -> tuple[TaskGroup, ...]:
        """The epoch's next groups over all processes, counted from `start`. Raises DataError when all are banned."""
        return tuple(TaskGroup(epoch, index, self._next_task()) for index in range(start, start + count))

    def ban(self, task_ids: Iterable[str]) -> None:
        """Never sample these tasks again."""
        banned = tuple(sorted({*self._state.banned, *task_ids}))
        self._state = SamplerState(self._state.num_passes, self._state.position, banned)

    def _next_task(self) -> EditTask:
        state, banned = self._state, set(self._state.banned)
        num_passes, position = state.num_passes, state.position
        for _ in range(2 * len(self._tasks)):  # contains a whole pass, wherever it starts
            if position == len(self._tasks):
                num_passes, position = num_passes + 1, 0
            task = self._tasks[self._order(num_passes)[position]]
            position += 1
            if task.id not in banned:
                self._state = SamplerState(num_passes, position, state.banned)
                return task
        raise DataError(f"all {len(self._tasks)} tasks are banned by the group filter; none is left to train on")

    def _order(self, num_pass: int) -> Sequence[int]:
        """Positions in the list, shuffled for one pass; cached, since lists are long and draws frequent."""
        if self._shuffled is None or self._shuffled[0] != num_pass:
            order = array("q", range(len(self._tasks)))  # eight bytes a task
            random.Random(f"{self._seed}/{num_pass}").shuffle(order)  # noqa: S311 - no secret
            self._shuffled = num_pass, order
        return self._shuffled[1]
