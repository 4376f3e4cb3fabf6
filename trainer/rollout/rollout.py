"""Rollout: the old policy edits each task G times.

Takes this process's task groups of the epoch and yields one RolloutGroup each as soon as its batch is done, so that
rewards can be requested while the next batch is being generated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.machine.seeding import generator
from edit_r1.trainer.mathematics.sizes import ChooseSize, Layout, layout_of
from edit_r1.trainer.mathematics.solvers import dpm_solver_2m, stochastic
from edit_r1.trainer.models.base import Conditioning, ModelFamily
from edit_r1.trainer.policy.base import Policy
from edit_r1.trainer.tasks.task_list import load_sources
from edit_r1.trainer.types import RolloutGroup, TaskGroup

T = TypeVar("T")
Sources = tuple[Image.Image, ...]


def roll_out(
    family: ModelFamily,
    policy: Policy,
    groups: Sequence[TaskGroup],
    *,
    group_size: int,
    num_steps: int,
    noise_level: float | None,
    choose_size: ChooseSize,
    batch_groups: int,
    seed: int,
    processes: Processes,
) -> Iterator[RolloutGroup]:
    """Generate `group_size` candidates per group on the model's grid, `batch_groups` groups at a time.

    Uses DPM-Solver++; if `noise_level` is given, Flow-GRPO's stochastic solver, and each rollout keeps its path.
    Groups of one batch whose sources differ in size are generated one layout after another.
    Raises Stopped between batches.
    """
    parts = _parts(groups, choose_size, batch_groups)
    last: list[tuple[TaskGroup, Sources]] = []
    for part in processes.in_step(parts, together=policy.sharded):
        last = last if part is None else part
        with policy.use("old"):
            produced = _roll_out_batch(family, last, num_steps, noise_level, group_size=group_size, seed=seed)
        if part is not None:
            yield from produced


def _parts(
    groups: Sequence[TaskGroup], choose_size: ChooseSize, batch_groups: int
) -> Iterator[list[tuple[TaskGroup, Sources]]]:
    """Sets of groups to generate at once: one batch and one layout."""
    for start in range(0, len(groups), batch_groups):
        batch = [(group, load_sources(group.task, choose_size)) for group in groups[start : start + batch_groups]]
        yield from by_layout(batch, lambda one: one[1])


def by_layout(items: Sequence[T], sources_of: Callable[[T], Sequence[Image.Image]]) -> list[list[T]]:
    """Split items by the sizes of their sources, keeping their order."""

    def layout(item: T) -> Layout:
        return layout_of(sources_of(item))

    return [list(part) for _, part in groupby(sorted(items, key=layout), key=layout)]


def _roll_out_batch(
    family: ModelFamily,
    batch: Sequence[tuple[TaskGroup, Sources]],
    num_steps: int,
    noise_level: float | None,
    *,
    group_size: int,
    seed: int,
) -> list[RolloutGroup]:
    groups, sources = [group for group, _ in batch], [images for _, images in batch]
    size = sources[0][0].size
    places = [(group.epoch, group.index, candidate) for group in groups for candidate in range(group_size)]
    conditioning = family.encode([group.task.instruction for group in groups], sources)
    noise = family.initial_noise([generator(seed, "rollout", *place) for place in places], size)
    rows = torch.arange(len(batch), device=noise.device).repeat_interleave(group_size)
    sigmas = family.sigmas(num_steps, size)
    velocity = velocity_given(family, conditioning.select(rows))
    if noise_level is None:
        x0, path = dpm_solver_2m(velocity, noise, sigmas), None
    else:
        draws = [generator(seed, "stochastic steps", *place) for place in places]
        step_noise = [torch.randn((num_steps - 1, *noise.shape[1:]), generator=draw) for draw in draws]
        path = stochastic(
            velocity, noise, sigmas, torch.stack(step_noise, dim=1).to(noise.device), noise_level=noise_level
        )
        x0 = path[-1]
    pictures = family.decode(x0, size)
    own = [slice(i * group_size, (i + 1) * group_size) for i in range(len(batch))]
    return [
        RolloutGroup(
            group=group,
            sources=sources[i],
            candidates=tuple(pictures[own[i]]),
            x0=x0[own[i]],
            conditioning=conditioning.select(rows.new_tensor([i])),
            sigmas=sigmas,
            path=None if path is None else path[:, own[i]],
        )
        for i, group in enumerate(groups)
    ]


def velocity_given(family: ModelFamily, conditioning: Conditioning) -> Callable[[Tensor, Tensor], Tensor]:
    """The family's velocity as the function of (x_t, t) that solvers expect."""

    def velocity(x_t: Tensor, t: Tensor) -> Tensor:
        return family.velocity(x_t, t, conditioning)

    return velocity
