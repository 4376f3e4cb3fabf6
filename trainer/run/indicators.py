"""Signals logged alongside the reward: signs that the policy learns to please the judge instead of learning to edit.

Takes a finished epoch and returns numbers over all processes for the log; training does not depend on them. See
`trainer.mathematics.alarms` for what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from edit_r1.trainer.machine.seeding import generator
from edit_r1.trainer.mathematics.alarms import agreement, unedited_distance
from edit_r1.trainer.mathematics.flow import interpolate
from edit_r1.trainer.run.assembly import Run
from edit_r1.trainer.run.pending_epoch import Scores
from edit_r1.trainer.types import RolloutGroup, ScoredGroup


def observe(run: Run, epoch: int, scores: Scores) -> Mapping[str, float]:
    """Metrics of one epoch, the same on every process; NaN where there is no data."""
    rollouts = [group.rollout for group in scores.scored]
    signs = {
        "reward/score_mass": _mean(
            run, [mass for group in scores.scored for mass in group.rewards.masses if mass is not None]
        ),
        "edit/unedited_distance": _mean(run, _distances(scores.scored)),
        "policy/kl_to_base": _mean(run, [_divergence(run, epoch, rollouts[0])]),
    }
    second_P_G = scores.second_P_G
    if second_P_G is not None:
        # Compare on the same edits, so that harder tasks do not look like a change.
        rewards_P_G = torch.where(second_P_G.isnan(), torch.nan, scores.rewards_P_G)
        signs["reward/second_mean"] = float(second_P_G.nanmean())
        signs["reward/second_gap"] = float(rewards_P_G.nanmean()) - float(second_P_G.nanmean())
        signs["reward/second_agreement"] = agreement(rewards_P_G, second_P_G)
    return signs


def _distances(scored: Sequence[ScoredGroup]) -> list[float]:
    return [
        unedited_distance(group.rollout.sources[0], candidate)
        for group in scored
        for candidate in group.rollout.candidates
    ]


@torch.no_grad()
def _divergence(run: Run, epoch: int, rollout: RolloutGroup) -> float:
    """mean((v_theta - v_ref)^2) half-way along one group's paths: like nft/kl, but available when the loss omits it."""
    x0 = rollout.x0[: run.config.micro_batch_size]
    t = rollout.sigmas[len(rollout.sigmas) // 2].float().to(x0.device).expand(len(x0))
    draw = generator(run.config.seed, "monitor", epoch, rollout.group.index)
    x_t = interpolate(x0, torch.randn(x0.shape, generator=draw).to(x0.device), t)
    conditioning = rollout.conditioning.select(torch.zeros(len(x0), dtype=torch.int64, device=x0.device))
    v_theta = run.family.velocity(x_t, t, conditioning)
    with run.policy.use("reference"):
        v_ref = run.family.velocity(x_t, t, conditioning)
    return float((v_theta - v_ref).square().mean())


def _mean(run: Run, values: Sequence[float]) -> float:
    """Mean over the values of all processes; NaN when there are none."""
    total, count = run.processes.sum(torch.tensor([sum(values), len(values)], dtype=torch.float64)).tolist()
    return total / count if count else float("nan")
