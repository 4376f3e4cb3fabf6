"""The figures of an alignment run by method, task and dimension. Pure.

Items and scores are gathered as `Evidence`, from which agreements, tests and distributions are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edit_r1.shared.preferences import LABELS, PreferenceItem
from edit_r1.workbench.alignment.agreement import (
    Floats,
    Ints,
    PairAgreement,
    ScoreAgreement,
    mcnemar,
    pair_agreement,
    score_agreement,
    strict_accuracy,
)

NUM_HISTOGRAM_BINS = 20
ALL = "all"
Scores = Mapping[str, Sequence[float | None]]
"""Method -> one score per edit of an item; None where missing."""


@dataclass(frozen=True)
class Evidence:
    """Human judgements with every method's scores. N pairs, E rated edits."""

    items: Ints
    """[N]."""
    human: Ints
    """[N] in {1, 0, -1}."""
    tasks: tuple[str, ...]
    """[N]."""
    dimensions: tuple[str, ...]
    """[N]."""
    differences: Mapping[str, Floats]
    """Method -> [N], first minus second; nan where a score is missing."""
    ratings: Floats
    """[E] on [0, 1]; nan where only a label was given."""
    labels: tuple[str | None, ...]
    """[E]."""
    rated_scores: Mapping[str, Floats]
    """Method -> [E]."""
    num_items: int
    num_discarded: int
    """Judgements on which annotators disagreed."""


def gather(
    items: Iterable[PreferenceItem], scores_of: Callable[[PreferenceItem], Scores], methods: Sequence[str]
) -> Evidence:
    """Gather the judgements of all items with their scores; items are read one by one."""
    owners: list[int] = []
    human: list[int] = []
    tasks: list[str] = []
    dimensions: list[str] = []
    ratings: list[float] = []
    labels: list[str | None] = []
    differences: dict[str, list[float]] = {method: [] for method in methods}
    rated: dict[str, list[float]] = {method: [] for method in methods}
    names: dict[str, int] = {}
    discarded = 0
    for item in items:
        owner = names.setdefault(item.id, len(names))
        scores = {
            method: [np.nan if score is None else score for score in found] for method, found in scores_of(item).items()
        }
        discarded += item.discarded
        for pair in item.pairs:
            owners.append(owner)
            human.append(pair.human)
            tasks.append(item.task or "none")
            dimensions.append(item.dimension)
            for method in methods:
                differences[method].append(scores[method][pair.first] - scores[method][pair.second])
        for rating in item.ratings:
            ratings.append(np.nan if rating.score is None else (rating.score - 1) / 4)
            labels.append(rating.label)
            for method in methods:
                rated[method].append(scores[method][rating.edit])
    return Evidence(
        items=np.array(owners, np.int64),
        human=np.array(human, np.int64),
        tasks=tuple(tasks),
        dimensions=tuple(dimensions),
        differences={method: np.array(values, float) for method, values in differences.items()},
        ratings=np.array(ratings, float),
        labels=tuple(labels),
        rated_scores={method: np.array(values, float) for method, values in rated.items()},
        num_items=len(names),
        num_discarded=discarded,
    )


def by_task(evidence: Evidence, method: str) -> dict[str, PairAgreement]:
    """Agreement for `all` and for each task."""
    return {ALL: _agreement(evidence, method, np.ones(len(evidence.human), bool))} | _parts(
        evidence, method, evidence.tasks
    )


def by_dimension(evidence: Evidence, method: str) -> dict[str, PairAgreement]:
    """Agreement for each annotated dimension; empty when there is only one."""
    found = _parts(evidence, method, evidence.dimensions)
    return found if len(found) > 1 else {}


def mean_over_tasks(evidence: Evidence, method: str) -> dict[str, float]:
    """Dimension -> unweighted mean of the tasks' strict accuracy, as in EditReward-Bench's tables."""
    dimensions, tasks = np.array(evidence.dimensions), np.array(evidence.tasks)
    differences = evidence.differences[method]
    found = {}
    for dimension in np.unique(dimensions):
        here = dimensions == dimension
        parts = [here & (tasks == task) for task in np.unique(tasks[here])]
        shares = [strict_accuracy(differences[part], evidence.human[part]) for part in parts]
        found[str(dimension)] = float(np.nanmean(shares)) if not np.isnan(shares).all() else float("nan")
    return found


def paired_tests(evidence: Evidence) -> dict[tuple[str, str], float]:
    """McNemar p-values of method pairs on the decided pairs that both methods scored."""
    tests = {}
    methods = list(evidence.differences)
    for index, first in enumerate(methods):
        for second in methods[index + 1 :]:
            mine, other = evidence.differences[first], evidence.differences[second]
            both = (evidence.human != 0) & ~np.isnan(mine) & ~np.isnan(other)
            sign = evidence.human[both]
            tests[first, second] = mcnemar(np.sign(mine[both]) == sign, np.sign(other[both]) == sign)
    return tests


def distributions(evidence: Evidence) -> dict[str, ScoreAgreement]:
    """Agreement of each method's scores with human ratings; empty without ratings."""
    if not evidence.labels:
        return {}
    return {
        method: score_agreement(scores, evidence.ratings, evidence.labels)
        for method, scores in evidence.rated_scores.items()
    }


def histograms(evidence: Evidence, method: str | None) -> dict[str, tuple[tuple[float, float], ...]]:
    """Figure 12: label -> (middle of a bin, share of edits), plus `all`; for human ratings when method is None."""
    values = evidence.ratings if method is None else evidence.rated_scores[method]
    labels = np.array([label or "" for label in evidence.labels])
    chosen = {ALL: np.ones(len(values), bool)} | {label: labels == label for label in LABELS}
    return {name: _histogram(values[mask & ~np.isnan(values)]) for name, mask in chosen.items() if mask.any()}


def _histogram(values: Floats) -> tuple[tuple[float, float], ...]:
    counts, edges = np.histogram(values, NUM_HISTOGRAM_BINS, (0.0, 1.0))
    middles = (edges[1:] + edges[:-1]) / 2
    return tuple((float(x), float(y)) for x, y in zip(middles, counts / max(1, counts.sum()), strict=True))


def _parts(evidence: Evidence, method: str, names: Sequence[str]) -> dict[str, PairAgreement]:
    column = np.array(names)
    return {str(name): _agreement(evidence, method, column == name) for name in np.unique(column)}


def _agreement(evidence: Evidence, method: str, chosen: npt.NDArray[np.bool_]) -> PairAgreement:
    return pair_agreement(evidence.differences[method][chosen], evidence.human[chosen], evidence.items[chosen])
