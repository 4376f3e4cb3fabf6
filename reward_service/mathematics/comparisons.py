"""Comparisons of pairs of candidates: which pairs to compare, and scores from the results. Pure.

Legend: N candidates, p_ij probability that i is better than j, theta strengths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from random import Random

import numpy as np

Pair = tuple[int, int]
_RIDGE = 1e-3
"""Weight of the prior on strengths, which keeps them finite where one candidate wins every comparison."""
_MAX_STEPS, _LONGEST_STEP, _TOLERANCE = 200, 1.0, 1e-9


def schedule(num: int, max_opponents: int, seed: int) -> tuple[Pair, ...]:
    """Pairs (i, j), i < j, in which all N candidates are compared equally often, with at most `max_opponents` others.

    All pairs if there are no more; else a connected regular graph, drawn by the seed: a ring of the shuffled candidates
    with chords. `max_opponents` is at least 2; one less is used if it and N are odd.
    """
    if num - 1 <= max_opponents:
        return tuple(combinations(range(num), 2))
    random = Random(seed)  # noqa: S311 - no secret
    ring = random.sample(range(num), num)
    degree = max_opponents - (num * max_opponents) % 2
    offsets = [1, *random.sample(range(2, (num + 1) // 2), degree // 2 - 1)]
    if degree % 2:
        offsets.append(num // 2)
    places = ((ring[i], ring[(i + offset) % num]) for offset in offsets for i in range(num))
    return tuple(sorted({(min(pair), max(pair)) for pair in places}))


def win_rates(candidates: Sequence[int], wins: Mapping[Pair, float]) -> dict[int, float]:
    """Probability that each candidate is better than another of the group, drawn at random; in [0, 1].

        s_i = mean_j p_ij

    For pairs that were not compared, p_ij = sigmoid(theta_i - theta_j) by the Bradley-Terry model of those that were.
    The scores of a group have the mean 0.5.

    Args:
        candidates: at least two.
        wins: (i, j) -> p_ij, each pair once; connects all candidates.

    """
    places = {candidate: place for place, candidate in enumerate(candidates)}
    observed = np.full((len(candidates), len(candidates)), np.nan)
    for (i, j), share in wins.items():
        observed[places[i], places[j]], observed[places[j], places[i]] = share, 1 - share
    compared = ~np.isnan(observed)
    strengths = _strengths(np.where(compared, observed, 0.0), compared) if _is_partial(compared) else observed[0]
    shares = np.where(compared, observed, _sigmoid(strengths[:, None] - strengths[None, :]))
    np.fill_diagonal(shares, 0.0)
    rates = np.clip(shares.sum(axis=1) / (len(candidates) - 1), 0.0, 1.0)
    return {candidate: float(rates[place]) for candidate, place in places.items()}


def unaffected(candidates: Collection[int], failures: Sequence[tuple[int, ...]]) -> set[int]:
    """The candidates left when those in the most failures are set aside, again and again until no failure is left.

    One candidate that fails in all its comparisons leaves all others; if two fail only with each other, both go.
    """
    left, open_failures = set(candidates), list(failures)
    while open_failures:
        counts = Counter(candidate for failure in open_failures for candidate in failure)
        most = max(counts.values())
        left -= {candidate for candidate, count in counts.items() if count == most}
        open_failures = [failure for failure in open_failures if left.issuperset(failure)]
    return left


def largest_linked(candidates: Collection[int], pairs: Collection[tuple[int, ...]]) -> set[int]:
    """The largest set of candidates that comparisons link to each other; only their scores have a common scale."""
    neighbours = {candidate: {one for pair in pairs if candidate in pair for one in pair} for candidate in candidates}
    largest: set[int] = set()
    waiting = set(candidates)
    while waiting:
        linked, reached = set(), {min(waiting)}
        while reached:
            linked |= reached
            reached = {one for candidate in reached for one in neighbours[candidate]} - linked
        waiting -= linked
        largest = max(largest, linked, key=len)
    return largest


def _is_partial(compared: np.ndarray) -> bool:
    return int(compared.sum()) < len(compared) * (len(compared) - 1)


def _strengths(wins: np.ndarray, compared: np.ndarray) -> np.ndarray:
    """Maximum a posteriori strengths [N] of the Bradley-Terry model, by Newton's method with bounded steps."""
    theta = np.zeros(len(wins))
    for _ in range(_MAX_STEPS):
        expected = np.where(compared, _sigmoid(theta[:, None] - theta[None, :]), 0.0)
        gradient = (wins - expected).sum(axis=1) - _RIDGE * theta
        information = -expected * (1 - expected)
        np.fill_diagonal(information, _RIDGE - information.sum(axis=1))
        step = np.linalg.solve(information, gradient)
        theta += step * min(1.0, _LONGEST_STEP / max(np.abs(step).max(), _TOLERANCE))
        if np.abs(step).max() < _TOLERANCE:
            break
    return theta


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * values))
