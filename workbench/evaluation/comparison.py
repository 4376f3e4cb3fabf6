"""Compares two editors on the same items by the same judge: win rates and score differences. Pure.

Only items scored for both are compared; the others are counted. The random generator is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from edit_r1.workbench.significance import Interval, sign_test

TIE = 1e-9
"""Scores closer than this count as equal (rounding differences)."""


@dataclass(frozen=True)
class Paired:
    """One item's score under both editors."""

    key: str
    type: str
    first: float
    second: float

    @property
    def difference(self) -> float:
        """Second minus first; 0 when they differ only by rounding."""
        difference = self.second - self.first
        return 0.0 if abs(difference) < TIE else difference


@dataclass(frozen=True)
class Outcome:
    """Comparison of the second editor with the first."""

    num_pairs: int
    wins: Interval
    """Share of items on which the second is better, with Wilson's interval; the next two are analogous."""
    ties: Interval
    losses: Interval
    num_wins: int
    num_losses: int
    item_difference: Interval
    """Mean over items of second - first; bootstrap over items."""
    macro_difference: Interval
    """Mean over types of the types' mean difference; bootstrap over items within each type."""
    sign_test_p: float
    """Two-sided p-value, ignoring ties."""


def pair(first: Mapping[str, tuple[str, float | None]], second: Mapping[str, tuple[str, float | None]]) -> list[Paired]:
    """Pair up items scored in both, in the first's order. Arguments map an item key to (type, score)."""
    return [
        Paired(key, name, value, other)
        for key, (name, value) in first.items()
        if value is not None and (other := second.get(key, ("", None))[1]) is not None
    ]


def compare(
    pairs: Sequence[Paired], random: np.random.Generator, num_resamples: int = 2000, confidence: float = 0.95
) -> Outcome:
    """Compute the whole comparison. Raises ValueError without pairs."""
    if not pairs:
        raise ValueError("no pairs to compare")
    differences = [one.difference for one in pairs]
    num_wins, num_losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    count = len(differences)
    groups = [[one.difference for one in pairs if one.type == name] for name in sorted({one.type for one in pairs})]
    return Outcome(
        num_pairs=count,
        wins=wilson(num_wins, count, confidence),
        ties=wilson(count - num_wins - num_losses, count, confidence),
        losses=wilson(num_losses, count, confidence),
        num_wins=num_wins,
        num_losses=num_losses,
        item_difference=bootstrap([differences], random, num_resamples, confidence),
        macro_difference=bootstrap(groups, random, num_resamples, confidence),
        sign_test_p=sign_test(num_wins, num_losses),
    )


def bootstrap(
    groups: Sequence[Sequence[float]], random: np.random.Generator, num_resamples: int, confidence: float
) -> Interval:
    """The mean of the groups' means, with the percentile interval from resampling within each group.

    Pairs are resampled: one pick takes both scores of an item.
    """
    resampled = np.mean([_resampled_means(np.asarray(group), random, num_resamples) for group in groups], axis=0)
    tail = 50 * (1 - confidence)
    low, high = (float(value) for value in np.percentile(resampled, [tail, 100 - tail]))
    return Interval(float(np.mean([np.mean(group) for group in groups])), low, high)


def wilson(successes: int, count: int, confidence: float = 0.95) -> Interval:
    """A share and Wilson's score interval: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / count
    centre = share + z * z / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    # At 0 and 1 the interval ends exactly there; the formula does too, up to rounding.
    low = 0.0 if successes == 0 else (centre - reach) / scale
    high = 1.0 if successes == count else (centre + reach) / scale
    return Interval(share, low, high)


def _resampled_means(
    values: npt.NDArray[np.float64], random: np.random.Generator, num_resamples: int
) -> npt.NDArray[np.float64]:
    picks = random.integers(0, len(values), (num_resamples, len(values)))
    means: npt.NDArray[np.float64] = values[picks].mean(axis=1)
    return means
