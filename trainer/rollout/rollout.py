"""Rollout: the old policy edits each task G times.

Takes the units of work of all processes and yields one RolloutGroup per part of this process's units as soon as its
batch is done, so that rewards can be requested while the next batch is being generated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

import torch
from PIL import Image

from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.machine.seeding import generator
from edit_r1.trainer.mathematics.sizes import ChooseSize, Layout, layout_of
from edit_r1.trainer.mathematics.solvers import dpm_solver_2m, stochastic
from edit_r1.trainer.models.base import ModelFamily
from edit_r1.trainer.models.sampling import TrueCfg
from edit_r1.trainer.policy.base import Policy
from edit_r1.trainer.rollout.units import Unit
from edit_r1.trainer.rollout.velocity import sampling_velocity
from edit_r1.trainer.tasks.task_list import load_sources
from edit_r1.trainer.types import GroupPart, RolloutGroup

T = TypeVar("T")
Sources = tuple[Image.Image, ...]
Batch = Sequence[tuple[GroupPart, Sources]]


def roll_out(
    family: ModelFamily,
    policy: Policy,
    units: Sequence[Unit],
    *,
    num_steps: int,
    noise_level: float | None,
    choose_size: ChooseSize,
    seed: int,
    processes: Processes,
    true_cfg: TrueCfg | None = None,
) -> Iterator[RolloutGroup]:
    """Generate this process's share of the units, one unit at a time, on the model's grid.

    Uses DPM-Solver++; if `noise_level` is given, Flow-GRPO's stochastic solver, and each rollout keeps its path.
    true_cfg: guidance of the sampling; the rollouts' conditioning is that of the positive branch alone.
    Parts of one unit whose sources differ in size are generated one layout after another.
    Raises Stopped between batches.
    """
    batches = _batches(processes.share(units, 1), choose_size)
    last: Batch | None = None
    for batch in processes.in_step(batches, together=policy.sharded):
        if batch is not None:
            last = batch
        elif last is None:  # this process has no unit, but sharded weights need its company
            last = next(_batches(units, choose_size))
        with policy.use("old"):
            produced = _roll_out_batch(family, last, num_steps, noise_level, true_cfg, seed=seed)
        if batch is not None:
            yield from produced


def _batches(units: Sequence[Unit], choose_size: ChooseSize) -> Iterator[Batch]:
    """Parts to generate at once: of one unit and one layout."""
    for unit in units:
        loaded = [(part, load_sources(part.group.task, choose_size)) for part in unit]
        yield from by_layout(loaded, lambda one: one[1])


def by_layout(items: Sequence[T], sources_of: Callable[[T], Sequence[Image.Image]]) -> list[list[T]]:
    """Split items by the sizes of their sources, keeping their order."""

    def layout(item: T) -> Layout:
        return layout_of(sources_of(item))

    return [list(part) for _, part in groupby(sorted(items, key=layout), key=layout)]


def _roll_out_batch(
    family: ModelFamily,
    batch: Batch,
    num_steps: int,
    noise_level: float | None,
    true_cfg: TrueCfg | None,
    *,
    seed: int,
) -> list[RolloutGroup]:
    parts, sources = [part for part, _ in batch], [images for _, images in batch]
    size, count = sources[0][0].size, len(parts[0].candidates)
    places = [(part.group.epoch, part.group.index, candidate) for part in parts for candidate in part.candidates]
    conditioning = family.encode([part.group.task.instruction for part in parts], sources)
    noise = family.initial_noise([generator(seed, "rollout", *place) for place in places], size)
    rows = torch.arange(len(batch), device=noise.device).repeat_interleave(count)
    sigmas = family.sigmas(num_steps, size)
    velocity = sampling_velocity(family, conditioning, sources, true_cfg, rows=rows)
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
    own = [slice(i * count, (i + 1) * count) for i in range(len(batch))]
    return [
        RolloutGroup(
            part=part,
            sources=sources[i],
            candidates=tuple(pictures[own[i]]),
            x0=x0[own[i]],
            conditioning=conditioning.select(rows.new_tensor([i])),
            sigmas=sigmas,
            path=None if path is None else path[:, own[i]],
        )
        for i, part in enumerate(parts)
    ]
