"""Combines several numbers in [0, 1] about one edit into one. Pure.

Legend: E execution, C consistency, F follow, K keep, Q quality (means of their principles), w weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edit_r1.reward_service.types import Principle


def gated(execution: float, consistency: float, w1: float, w2: float) -> float:
    """Execution gates the consistency bonus: an edit that changes nothing earns nothing for preserving everything.

    R = E (w1 + w2 C) / (w1 + w2)
    """
    return execution * (w1 + w2 * consistency) / (w1 + w2)


def verifier_reward(principles: Sequence[Principle], scores: Sequence[float]) -> float:
    """Scores of checked principles -> reward, gated by following the instruction.

        R = F (w_F + w_K K + w_Q Q) / (w_F + w_K + w_Q)

    F, K, Q are weighted means within a category and w_F, w_K, w_Q the sums of its principles' weights; categories
    without principles are left out. Without a `follow` principle, R is the weighted mean of all.
    Deviation: arXiv:2604.27505 lets its model write the aggregate and gives no formula; this one is ours.
    """
    totals = _weights_by_category(principles)
    means = category_means(principles, scores)
    if "follow" not in means:
        return weighted_mean(scores, [principle.weight for principle in principles])
    bonus = sum(totals[name] * mean for name, mean in means.items() if name != "follow")
    return means["follow"] * (totals["follow"] + bonus) / sum(totals.values())


def category_means(principles: Sequence[Principle], scores: Sequence[float]) -> dict[str, float]:
    """Weighted mean score of each category that has principles."""
    sums: dict[str, float] = {}
    for principle, score in zip(principles, scores, strict=True):
        sums[principle.category] = sums.get(principle.category, 0.0) + principle.weight * score
    totals = _weights_by_category(principles)
    return {name: total / totals[name] for name, total in sums.items()}


def weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """sum(w x) / sum(w)"""
    return math.fsum(w * x for w, x in zip(weights, values, strict=True)) / math.fsum(weights)


def geometric_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """prod(x ^ w) ^ (1 / sum(w)); 0 if any value is 0."""
    if min(values) <= 0:
        return 0.0
    return math.exp(weighted_mean([math.log(value) for value in values], weights))


def least(values: Sequence[float], _weights: Sequence[float]) -> float:
    """min(x); accepts weights for the same signature as the means, but ignores them."""
    return min(values)


def _weights_by_category(principles: Sequence[Principle]) -> Mapping[str, float]:
    totals: dict[str, float] = {}
    for principle in principles:
        totals[principle.category] = totals.get(principle.category, 0.0) + principle.weight
    return totals
