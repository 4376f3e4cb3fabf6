"""Rollout: the old policy edits each task G times.

Enters: the epoch's task groups of this process. Leaves: one RolloutGroup each, as soon as its batch is done, so that
rewards can be asked for while the next batch is being generated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from trainer.data import load_sources
from trainer.models.base import Conditioning, ModelFamily
from trainer.policy import LoraPolicy
from trainer.seeding import generator
from trainer.solvers import dpm_solver_2m
from trainer.types import RolloutGroup, TaskGroup

ImageSize = tuple[int, int]
"""(width, height) in pixels."""


def roll_out(
    family: ModelFamily,
    policy: LoraPolicy,
    groups: Sequence[TaskGroup],
    *,
    group_size: int,
    num_steps: int,
    size: ImageSize,
    batch_groups: int,
    seed: int,
) -> Iterator[RolloutGroup]:
    """Generate `group_size` candidates a group by DPM-Solver++ on the model's grid, `batch_groups` at a time."""
    sigmas = family.sigmas(num_steps)
    for start in range(0, len(groups), batch_groups):
        batch = groups[start : start + batch_groups]
        with policy.use("old"):
            produced = _roll_out_batch(family, batch, sigmas, group_size=group_size, size=size, seed=seed)
        yield from produced


def _roll_out_batch(
    family: ModelFamily, batch: Sequence[TaskGroup], sigmas: Tensor, *, group_size: int, size: ImageSize, seed: int
) -> list[RolloutGroup]:
    sources = [load_sources(group.task, *size) for group in batch]
    conditioning = family.encode([group.task.instruction for group in batch], sources)
    noise = family.initial_noise(
        [generator(seed, "rollout", g.epoch, g.index, candidate) for g in batch for candidate in range(group_size)]
    )
    rows = torch.arange(len(batch), device=noise.device).repeat_interleave(group_size)
    x0 = dpm_solver_2m(velocity_given(family, conditioning.select(rows)), noise, sigmas)
    pictures = family.decode(x0)
    return [
        RolloutGroup(
            group=group,
            sources=sources[i],
            candidates=tuple(pictures[i * group_size : (i + 1) * group_size]),
            x0=x0[i * group_size : (i + 1) * group_size],
            conditioning=conditioning.select(rows.new_tensor([i])),
        )
        for i, group in enumerate(batch)
    ]


def velocity_given(family: ModelFamily, conditioning: Conditioning) -> Callable[[Tensor, Tensor], Tensor]:
    """The family's velocity as the solvers take it."""

    def velocity(x_t: Tensor, t: Tensor) -> Tensor:
        return family.velocity(x_t, t, conditioning)

    return velocity
