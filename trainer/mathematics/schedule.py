"""Schedules: decay of the old policy and the EMA, and the number of timesteps a sample is trained on.

Pure functions from counts to a decay in [0, 1) or a count; no torch.
A copy is updated as copy <- decay copy + (1 - decay) policy.
"""

from __future__ import annotations

from typing import Literal

OldDecayType = Literal[0, 1, 2]


def old_decay(decay_type: OldDecayType, step: int) -> float:
    """Decay of the old policy after an epoch that ended at optimizer step `step`.

    type 0: 0 (on-policy);  type 1: min(0.001 s, 0.5);  type 2: 0 until s = 75, then min(0.0075 (s - 75), 0.999).
    """
    if decay_type == 1:
        return min(0.001 * step, 0.5)
    if decay_type == 2:
        return min(0.0075 * max(step - 75, 0), 0.999)
    return 0.0


def ema_decay(step: int, limit: float = 0.9) -> float:
    """Decay of the EMA after optimizer step `step`: min((1 + s) / (10 + s), limit)."""
    return min((1 + step) / (10 + step), limit)


def num_trained_timesteps(rollout_steps: int, wanted: int | None = None) -> int:
    """K, the number of timesteps of the rollout grid each sample is trained on: `wanted`, or int(0.99 steps)."""
    return wanted if wanted is not None else max(1, int(rollout_steps * 0.99))
