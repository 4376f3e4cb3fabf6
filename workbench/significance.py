"""Statistical significance: estimates with intervals, and the exact sign test. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval; NaN when there is no data."""

    estimate: float
    low: float
    high: float


def sign_test(num_wins: int, num_losses: int) -> float:
    """Two-sided P(at least as lopsided as this) when wins and losses are equally likely; 1 when there are none.

    On the pairs where exactly one of two methods is right, this is McNemar's exact test.
    """
    count = num_wins + num_losses
    # Integers: exact for any count; each binomial coefficient is computed from the previous one.
    term = tail = 1
    for k in range(min(num_wins, num_losses)):
        term = term * (count - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << count))
