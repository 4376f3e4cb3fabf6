"""From scored groups to the samples of an update.

Builds a TrainBatch from this process's rollouts, each sample's worth and the keep-mask (both over all processes).
Optimizer steps are assigned over the whole epoch, so the assignment does not depend on the number of processes.
Legend: P groups, G candidates per group, N samples of this process.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edit_r1.trainer.types import RolloutGroup, TrainBatch

NOT_TRAINED = -1


def build_batch(
    rollouts: Sequence[RolloutGroup],
    worth_P_G: Tensor,
    step_P_G: Tensor,
    *,
    num_optimizer_steps: int,
) -> TrainBatch:
    """Collect the samples of this process that have a step."""
    places = [
        (row, position)
        for row, rollout in enumerate(rollouts)
        for position, candidate in enumerate(rollout.part.candidates)
        if step_P_G[rollout.group.index, candidate] != NOT_TRAINED
    ]
    device = rollouts[0].x0.device
    rows = torch.tensor([row for row, _ in places], dtype=torch.int64)
    candidates = torch.tensor([rollouts[row].part.candidates[i] for row, i in places], dtype=torch.int64)
    groups = torch.tensor([rollout.group.index for rollout in rollouts])[rows]
    return TrainBatch(
        rollouts=tuple(rollouts),
        places=tuple(places),
        worth=worth_P_G[groups, candidates].float().to(device),
        optimizer_step=step_P_G[groups, candidates],
        unit=torch.tensor([rollout.part.unit for rollout in rollouts])[rows],
        num_samples_per_step=tuple(int((step_P_G == step).sum()) for step in range(num_optimizer_steps)),
    )


def assign_steps(worth_P_G: Tensor, kept_P: Tensor, num_optimizer_steps: int, generator: torch.Generator) -> Tensor:
    """Distribute the epoch's kept, scored samples over its optimizer steps, evenly and at random.

    Returns int64 [P, G]: the step, or NOT_TRAINED for a dropped group or a missing score.
    """
    trained = kept_P[:, None] & ~worth_P_G.isnan()
    places = torch.nonzero(trained.flatten()).flatten()
    shuffled = places[torch.randperm(len(places), generator=generator)]
    steps = torch.full((trained.numel(),), NOT_TRAINED, dtype=torch.int64)
    for step, part in enumerate(shuffled.tensor_split(num_optimizer_steps)):
        steps[part] = step
    return steps.view_as(trained)
