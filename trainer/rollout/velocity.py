"""The velocity that edits are sampled with, as the function of (x_t, t) that solvers expect.

Without guidance it is the family's velocity. With true classifier-free guidance, the positive and the negative branch
are the two halves of one forward pass with twice as many rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor

from edit_r1.trainer.mathematics.guidance import guided
from edit_r1.trainer.models.base import Conditioning, ModelFamily
from edit_r1.trainer.models.sampling import TrueCfg

Velocity = Callable[[Tensor, Tensor], Tensor]


def velocity_given(family: ModelFamily, conditioning: Conditioning) -> Velocity:
    """The family's velocity, without a negative branch."""

    def velocity(x_t: Tensor, t: Tensor) -> Tensor:
        return family.velocity(x_t, t, conditioning)

    return velocity


def sampling_velocity(
    family: ModelFamily,
    conditioning: Conditioning,
    sources: Sequence[Sequence[Image.Image]],
    true_cfg: TrueCfg | None,
    *,
    rows: Tensor | None = None,
) -> Velocity:
    """The velocity to sample with; None: without guidance.

    conditioning: of the B instructions with their sources. rows: int64 [B'], which of them each latent has; by default
    latent i has conditioning i. Raises ValueError when the family has no negative branch.
    """
    positive = conditioning if rows is None else conditioning.select(rows)
    if true_cfg is None:
        return velocity_given(family, positive)
    branch = family.negative_branch
    if branch is None:
        raise ValueError(f"{type(family).__name__} has no negative branch")
    # The sources are encoded again because some text encoders see them, too.
    encoded = family.encode([true_cfg.negative_prompt] * len(sources), sources)
    negative = encoded if rows is None else encoded.select(rows)
    both = velocity_given(family, Conditioning.concatenate([positive, negative]))

    def velocity(x_t: Tensor, t: Tensor) -> Tensor:
        v_positive, v_negative = both(torch.cat([x_t, x_t]), torch.cat([t, t])).chunk(2)
        return guided(v_positive, v_negative, true_cfg.scale, keeps_norm=branch.keeps_norm)

    return velocity
