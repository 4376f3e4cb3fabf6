"""From rewards to advantages to optimality.

Takes the rewards of an epoch, gathered over all processes, with NaN where a score is missing, and returns advantages
and optimality of the same shape with NaN in the same places. A missing score is excluded from every mean and standard
deviation, as if the candidate had never been sampled.
Legend: P groups per epoch, G candidates per group.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

StdScope = Literal["global", "group"]
AdvantageMode = Literal["all", "positive_only", "negative_only", "one_only", "binary"]
STD_FLOOR = 1e-4


def advantages(
    rewards_P_G: Float[Tensor, "P G"], *, std: StdScope = "global", in_global_std_P: Bool[Tensor, " P"] | None = None
) -> Float[Tensor, "P G"]:
    """A = (r - mean of the group) / (std + 1e-4), in float64; std is the population std (divided by n).

    `std="global"` uses one std over all rewards of the epoch, or of the groups selected by `in_global_std_P`;
    `std="group"` uses each group's own. Source: arXiv:2510.16888 Section 2.1, Eq. 7 with Z_c = adv_clip std.
    """
    rewards = rewards_P_G.double()
    mean = rewards.nanmean(dim=1, keepdim=True)
    if std == "group":
        scale = group_std(rewards)[:, None]
    else:
        scale = global_std(rewards if in_global_std_P is None else rewards[in_global_std_P])
    return (rewards - mean) / (scale + STD_FLOOR)


def weighted_advantages(
    rewards_P_G: Mapping[str, Float[Tensor, "P G"]],
    weights: Mapping[str, float],
    *,
    std: StdScope = "global",
    in_global_std_P: Mapping[str, Bool[Tensor, " P"]] | None = None,
    muted_P: Mapping[str, Bool[Tensor, " P"]] | None = None,
) -> Float[Tensor, "P G"]:
    """Combine several rewards: one advantage each, then A = sum(w A_i) / sum(w).

    So the influence of a reward depends on its weight, not on its spread. A candidate that lacks one of the rewards
    is excluded from the statistics of all (`complete_rewards`) and has no advantage.

    in_global_std_P: for each reward, the groups that its global standard deviation is taken over.
    muted_P: for each reward, the groups in which its advantages count as 0.
    """
    parts = []
    for name, rewards in complete_rewards(rewards_P_G).items():
        scope_P = None if in_global_std_P is None else in_global_std_P[name]
        part = advantages(rewards, std=std, in_global_std_P=scope_P)
        if muted_P is not None:  # a missing advantage stays missing
            part = torch.where(muted_P[name][:, None] & ~part.isnan(), 0.0, part)
        parts.append(weights[name] * part)
    return torch.stack(parts).sum(0) / sum(weights[name] for name in rewards_P_G)


def complete_rewards(rewards_P_G: Mapping[str, Float[Tensor, "P G"]]) -> dict[str, Float[Tensor, "P G"]]:
    """Several rewards of the same candidates, with NaN in all of them where one is missing."""
    missing_P_G = torch.stack([rewards.isnan() for rewards in rewards_P_G.values()]).any(0)
    return {name: torch.where(missing_P_G, torch.nan, rewards) for name, rewards in rewards_P_G.items()}


def optimality(
    advantages_P_G: Float[Tensor, "P G"], *, adv_clip: float = 5.0, mode: AdvantageMode = "all"
) -> Float[Tensor, "P G"]:
    """The weight of the positive branch, rho = clip(A / adv_clip / 2 + 1/2, 0, 1). Source: arXiv:2510.16888 Eq. 7.

    Modes change A first: `positive_only` and `negative_only` zero the other sign, `one_only` is 1 where A > 0 and 0
    elsewhere, `binary` is the sign of A.
    """
    return (apply_mode(advantages_P_G, mode) / adv_clip / 2.0 + 0.5).clamp(0.0, 1.0)


def group_std(rewards_P_G: Float[Tensor, "P G"]) -> Float[Tensor, " P"]:
    """Population standard deviation of each group's present rewards; NaN for a group that has none."""
    centred = rewards_P_G - rewards_P_G.nanmean(dim=1, keepdim=True)
    return centred.square().nanmean(dim=1).sqrt()


def global_std(rewards_P_G: Float[Tensor, "P G"]) -> Float[Tensor, ""]:
    """Population standard deviation of all present rewards; 0 when there are none."""
    present = rewards_P_G[~rewards_P_G.isnan()]
    return present.std(correction=0) if present.numel() else rewards_P_G.new_zeros(())


def apply_mode(advantages_P_G: Float[Tensor, "P G"], mode: AdvantageMode) -> Float[Tensor, "P G"]:
    """Advantages reshaped by a mode; see `optimality`."""
    if mode == "positive_only":
        return advantages_P_G.clamp(min=0.0)
    if mode == "negative_only":
        return advantages_P_G.clamp(max=0.0)
    missing_P_G = advantages_P_G.isnan()  # to torch the sign of NaN is 0, and so is NaN > 0
    if mode == "binary":
        return torch.where(missing_P_G, advantages_P_G, advantages_P_G.sign())
    if mode == "one_only":
        return torch.where(missing_P_G, advantages_P_G, (advantages_P_G > 0).to(advantages_P_G.dtype))
    return advantages_P_G
