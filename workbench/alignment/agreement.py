"""Agreement of scores with humans: pairwise accuracy under three tie rules, intervals, tests, distributions. Pure.

Legend: N pairs or edits, M items (clusters that are resampled together).
Source: arXiv:2510.16888, Section 3.5, Appendix B, which does not say how ties count, so all rules are reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from edit_r1.workbench.significance import Interval, sign_test

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NUM_RESAMPLES = 2000
NUM_BINS = 10
NUM_MARGINS = 201
"""Number of quantiles of the differences tried as tie margin."""


@dataclass(frozen=True)
class PairAgreement:
    """Agreement of one method with the pairs that humans decided, and its treatment of human ties."""

    num_pairs: int
    """Pairs decided by humans and scored."""
    num_ties: int
    """Scored pairs that humans found equal."""
    num_missing: int
    """Pairs with an edit without a score."""
    strict: Interval
    """Share of pairs where method and humans agree; equal scores count as wrong."""
    half: Interval
    """Share of pairs where method and humans agree; equal scores count half."""
    tie_rate: float
    """Share of decided pairs with equal scores."""
    with_ties: float
    """Accuracy on better, worse, equal, with a margin chosen on the other half of the items; nan without human ties."""
    whole_items: Interval
    """Share of items where method and humans agree on every decided pair."""


def pair_agreement(differences: Floats, human: Ints, items: Ints, seed: int = 0) -> PairAgreement:
    """Agreement of one method with the human preferences.

    Args:
        differences: [N], score of the first edit minus that of the second; nan where one is missing.
        human: [N] in {1, 0, -1}.
        items: [N], the item of each pair.
        seed: seed of the bootstrap and of the split for `with_ties`.

    """
    scored = ~np.isnan(differences)
    decided = scored & (human != 0)
    right = _right(differences[decided], human[decided])
    equal = (differences[decided] == 0).astype(float)
    owners = items[decided]
    return PairAgreement(
        num_pairs=int(decided.sum()),
        num_ties=int((scored & (human == 0)).sum()),
        num_missing=int((~scored).sum()),
        strict=bootstrap_mean(right, owners, seed),
        half=bootstrap_mean(right + equal / 2, owners, seed),
        tie_rate=float(equal.mean()) if equal.size else float("nan"),
        with_ties=accuracy_with_ties(differences[scored], human[scored], items[scored], seed),
        whole_items=_whole_items(right, owners, seed),
    )


def strict_accuracy(differences: Floats, human: Ints) -> float:
    """`PairAgreement.strict` without its interval; nan when no pair is both decided and scored."""
    decided = ~np.isnan(differences) & (human != 0)
    return float(_right(differences[decided], human[decided]).mean()) if decided.any() else float("nan")


def bootstrap_mean(values: Floats, items: Ints, seed: int = 0) -> Interval:
    """Mean of values [N] with its percentile interval, resampling items [N] with all their values."""
    if not values.size:
        return Interval(float("nan"), float("nan"), float("nan"))
    _, owners = np.unique(items, return_inverse=True)
    sums, counts = np.bincount(owners, values), np.bincount(owners).astype(float)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=NUM_RESAMPLES)
    low, high = np.percentile(drawn @ sums / (drawn @ counts), [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def accuracy_with_ties(differences: Floats, human: Ints, items: Ints, seed: int = 0) -> float:
    """Three-way accuracy where |difference| <= margin means equal.

    The margin is chosen on one half of the items and applied to the other, and vice versa: choosing it on the pairs
    that are counted, as released code does (arXiv:2305.14324 on one set), is biased upwards.
    """
    if not (human == 0).any():
        return float("nan")
    names = np.unique(items)
    half = np.isin(items, np.random.default_rng(seed).permutation(names)[: len(names) // 2])
    right = 0.0
    for chosen, counted in ((half, ~half), (~half, half)):
        margin = _best_margin(differences[chosen], human[chosen])
        right += (_three_way(differences[counted], margin) == human[counted]).sum()
    return float(right / len(human))


def mcnemar(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Exact two-sided p-value that two methods are right equally often, given their correctness on pairs [N]."""
    return sign_test(int((first & ~second).sum()), int((~first & second).sum()))


@dataclass(frozen=True)
class ScoreAgreement:
    """Agreement of one method's scores with human ratings, on [0, 1]; a rating h in 1..5 becomes (h - 1) / 4."""

    num_edits: int
    spearman: float
    wasserstein: float
    """Mean distance scores must be moved to match the distribution of human ratings."""
    kolmogorov_smirnov: float
    calibration_error: float
    """Mean over ten score bins of |mean score - mean rating|, weighted by the number of edits."""
    auc_good_bad: float
    """Probability that a Good edit scores above a Bad one, counting ties half; nan without labels."""


def score_agreement(scores: Floats, human: Floats, labels: Sequence[str | None]) -> ScoreAgreement:
    """Agreement of scores [N] with human ratings [N], both on [0, 1]; nan where missing."""
    named = np.array([label or "" for label in labels])
    found = ~np.isnan(scores)
    both = found & ~np.isnan(human)
    mine, theirs = scores[both], human[both]
    enough = both.sum() > 1 and len(np.unique(mine)) > 1 and len(np.unique(theirs)) > 1
    return ScoreAgreement(
        num_edits=int(both.sum()),
        spearman=float(stats.spearmanr(mine, theirs).statistic) if enough else float("nan"),
        wasserstein=float(stats.wasserstein_distance(mine, theirs)) if both.any() else float("nan"),
        kolmogorov_smirnov=float(stats.ks_2samp(mine, theirs).statistic) if both.any() else float("nan"),
        calibration_error=calibration_error(mine, theirs),
        auc_good_bad=_auc(scores[found & (named == "Good")], scores[found & (named == "Bad")]),
    )


def calibration_error(scores: Floats, human: Floats) -> float:
    """Expected calibration error of scores [N] in NUM_BINS equal bins of [0, 1]."""
    if not scores.size:
        return float("nan")
    bins = np.minimum((scores * NUM_BINS).astype(int), NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    gaps = np.abs(np.bincount(bins, scores, NUM_BINS) - np.bincount(bins, human, NUM_BINS))
    return float(gaps.sum() / counts.sum())


def _right(differences: Floats, human: Ints) -> Floats:
    """1.0 for each decided pair where method and humans agree, else 0.0."""
    right: Floats = (np.sign(differences) == human).astype(float)
    return right


def _auc(good: Floats, bad: Floats) -> float:
    if not good.size or not bad.size:
        return float("nan")
    return float(stats.mannwhitneyu(good, bad).statistic / (good.size * bad.size))


def _whole_items(right: Floats, owners: Ints, seed: int) -> Interval:
    names, index = np.unique(owners, return_inverse=True)
    whole = np.ones(len(names))
    np.minimum.at(whole, index, right)
    return bootstrap_mean(whole, names, seed)


def _three_way(differences: Floats, margin: float) -> Ints:
    return np.where(np.abs(differences) <= margin, 0, np.sign(differences)).astype(np.int64)


def _best_margin(differences: Floats, human: Ints) -> float:
    """The most accurate margin, the smallest in case of a tie; -1 means that no pair counts as equal."""
    margins = [-1.0]
    if differences.size:
        margins += map(float, np.unique(np.quantile(np.abs(differences), np.linspace(0, 1, NUM_MARGINS))))
    return max(margins, key=lambda margin: (int((_three_way(differences, margin) == human).sum()), -margin))
