"""The group filter: which groups of an epoch are trained on, and why the others are dropped.

Takes the epoch's rewards, NaN where a score is missing; returns a keep-mask with a reason for every dropped group, and
which tasks need not be sampled again.
Legend: P groups, G candidates per group.
Source: arXiv:2510.16888 Section 2.3, tau_mean = 0.9 and tau_spread = 0.05.
Deviation: the paper says "variance"; the reference code compares the standard deviation, as does `spread="std"`. That
code drops by the rule `strict` and bans the groups of `solved_groups`.
"""
# ruff: noqa: N815 - field names include their dimensions, as argument names do

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from edit_r1.trainer.mathematics.advantage import complete_rewards, group_std

RuleName = Literal["paper", "strict", "range", "none"]
Spread = Literal["std", "variance"]
BELOW_QUORUM = "below_quorum"


@dataclass(frozen=True)
class FilterThresholds:
    """Thresholds of the rules, in units of the reward ([0, 1])."""

    tau_mean: float = 0.9
    tau_spread: float = 0.05
    spread: Spread = "std"
    min_range: float = 0.05
    quorum: int = 2
    """Minimum number of scored candidates; a group with fewer is dropped under every rule."""


@dataclass(frozen=True)
class GroupStatistics:
    """Statistics over each group's present rewards; NaN for a group that has none."""

    mean_P: Float[Tensor, " P"]
    spread_P: Float[Tensor, " P"]
    range_P: Float[Tensor, " P"]
    num_scored_P: Tensor


@dataclass(frozen=True)
class KeepMask:
    """The filter's verdict."""

    kept_P: Bool[Tensor, " P"]
    reasons: tuple[str | None, ...]
    """Reason for each dropped group: the rule's name or `below_quorum`; None for a kept group."""


@dataclass(frozen=True)
class JointKeep:
    """The filter's verdict on groups with several rewards: a group is kept for those that still have to teach."""

    groups: KeepMask
    """Keeps the groups that are kept for any reward."""
    by_reward: Mapping[str, Bool[Tensor, " P"]]
    """The verdict for each reward alone."""

    @property
    def muted(self) -> dict[str, Bool[Tensor, " P"]]:
        """For each reward, groups that are kept for the sake of the others only."""
        return {name: self.groups.kept_P & ~kept_P for name, kept_P in self.by_reward.items()}


def filter_jointly(
    rewards_P_G: Mapping[str, Float[Tensor, "P G"]], rule: RuleName, thresholds: FilterThresholds
) -> JointKeep:
    """Apply one rule to each reward; a group is dropped when every reward alone would drop it.

    A candidate that lacks one of the rewards counts in none of them.
    """
    masks = {name: filter_groups(one, rule, thresholds) for name, one in complete_rewards(rewards_P_G).items()}
    kept_P = torch.stack([mask.kept_P for mask in masks.values()]).any(0)
    reasons = next(iter(masks.values())).reasons
    joint = tuple(None if kept else reason for kept, reason in zip(kept_P.tolist(), reasons, strict=True))
    return JointKeep(KeepMask(kept_P, joint), {name: mask.kept_P for name, mask in masks.items()})


def filter_groups(rewards_P_G: Float[Tensor, "P G"], rule: RuleName, thresholds: FilterThresholds) -> KeepMask:
    """Apply one rule to all groups.

    paper: drop when mean > tau_mean and spread < tau_spread; strict: keep only mean < tau_mean and spread > tau_spread;
    range: drop when max - min < min_range.
    """
    statistics = group_statistics(rewards_P_G, thresholds.spread)
    too_few_P = statistics.num_scored_P < thresholds.quorum
    dropped_P = too_few_P | RULES[rule](statistics, thresholds)
    reasons = tuple(
        (BELOW_QUORUM if too_few else rule) if dropped else None
        for too_few, dropped in zip(too_few_P.tolist(), dropped_P.tolist(), strict=True)
    )
    return KeepMask(~dropped_P, reasons)


def solved_groups(rewards_P_G: Mapping[str, Float[Tensor, "P G"]], thresholds: FilterThresholds) -> Bool[Tensor, " P"]:
    """Groups with a quorum that meet the condition of the rule `paper` in every reward: little is left to learn."""
    statistics = [group_statistics(one, thresholds.spread) for one in complete_rewards(rewards_P_G).values()]
    return torch.stack([(one.num_scored_P >= thresholds.quorum) & _solved(one, thresholds) for one in statistics]).all(
        0
    )


def num_dropped_by_rule(
    rewards_P_G: Mapping[str, Float[Tensor, "P G"]], thresholds: FilterThresholds
) -> dict[str, int]:
    """Number of groups each rule would drop, so that the log shows the effect of other choices."""
    return {rule: int((~filter_jointly(rewards_P_G, rule, thresholds).groups.kept_P).sum()) for rule in RULES}


def group_statistics(rewards_P_G: Float[Tensor, "P G"], spread: Spread = "std") -> GroupStatistics:
    """Mean, spread (population std or variance), range and count of each group's present rewards."""
    rewards = rewards_P_G.double()
    present = ~rewards.isnan()
    std = group_std(rewards)
    highest = torch.where(present, rewards, -torch.inf).amax(dim=1)
    lowest = torch.where(present, rewards, torch.inf).amin(dim=1)
    return GroupStatistics(
        mean_P=rewards.nanmean(dim=1),
        spread_P=std if spread == "std" else std.square(),
        range_P=highest - lowest,
        num_scored_P=present.sum(dim=1),
    )


def _solved(s: GroupStatistics, t: FilterThresholds) -> Tensor:
    return (s.mean_P > t.tau_mean) & (s.spread_P < t.tau_spread)


def _outside_learning_band(s: GroupStatistics, t: FilterThresholds) -> Tensor:
    return ~((s.mean_P < t.tau_mean) & (s.spread_P > t.tau_spread))


def _narrow(s: GroupStatistics, t: FilterThresholds) -> Tensor:
    return s.range_P < t.min_range


def _nothing(s: GroupStatistics, _: FilterThresholds) -> Tensor:
    return torch.zeros_like(s.mean_P, dtype=torch.bool)


RULES: dict[RuleName, Callable[[GroupStatistics, FilterThresholds], Tensor]] = {
    "paper": _solved,
    "strict": _outside_learning_band,
    "range": _narrow,
    "none": _nothing,
}
"""Rule name -> (statistics, thresholds) -> bool [P], True where the group is dropped."""
