"""How sure a figure is: estimates with intervals, and the exact test of who wins more often. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval; nan where there was nothing to estimate from."""

    estimate: float
    low: float
    high: float


def sign_test(num_wins: int, num_losses: int) -> float:
    """P(as lopsided as this or more) when wins and losses are equally likely, two-sided; 1 without either.

    Of two methods right on the same pairs, with those on which just one is right, it is McNemar's exact test.
    """
    count = num_wins + num_losses
    # Whole numbers: exact for any count, and each binomial coefficient is made from the one before.
    term = tail = 1
    for k in range(min(num_wins, num_losses)):
        term = term * (count - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << count))
