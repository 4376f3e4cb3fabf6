"""Aggregates sample scores into table figures. Pure.

The headline figure of both benchmarks is the *macro* mean: the mean of the types' means, regardless of type size.
A sample whose judgement failed is missing: it is excluded from all means, and the coverage counts it. If every sample
of a type is missing, the macro mean is undefined, since a mean over fewer types is a different quantity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class Sample:
    """One judged item of a benchmark."""

    type: str
    value: float | None
    """None when the judgement is missing."""


@dataclass(frozen=True)
class TypeMean:
    """One column of a table."""

    mean: float | None
    """Mean over the scored samples; None when there are none."""
    num_items: int
    num_scored: int


@dataclass(frozen=True)
class Summary:
    """One row of a table."""

    types: Mapping[str, TypeMean]
    macro: float | None
    """Mean of the types' means; None when a type has none."""
    item_mean: float | None
    """Mean over all scored samples."""
    num_items: int
    num_scored: int

    @property
    def coverage(self) -> float:
        """Fraction of samples that have a score; 0 without samples."""
        return self.num_scored / self.num_items if self.num_items else 0.0


def summarise(samples: Iterable[Sample], order: Sequence[str] = ()) -> Summary:
    """Summarise samples; types come in the given order, others after them by name."""
    samples = list(samples)
    rank = {name: index for index, name in enumerate(order)}
    names = sorted({sample.type for sample in samples}, key=lambda name: (rank.get(name, len(rank)), name))
    types = {name: _type_mean([one.value for one in samples if one.type == name]) for name in names}
    scored = [sample.value for sample in samples if sample.value is not None]
    return Summary(
        types=types,
        macro=macro_mean([one.mean for one in types.values()]),
        item_mean=fmean(scored) if scored else None,
        num_items=len(samples),
        num_scored=len(scored),
    )


def macro_mean(means: Sequence[float | None]) -> float | None:
    """The unweighted mean of the types' means; None without types or when a type has no mean.

    Source: for GEdit, calculate_statistics.py of Step1X-Edit. ImgEdit's script stops at the types; this reproduces the
    papers' "Overall" from their nine columns.
    """
    present = [mean for mean in means if mean is not None]
    return fmean(present) if present and len(present) == len(means) else None


@dataclass(frozen=True)
class GEditScores:
    """Scores of one GEdit sample."""

    semantic: float
    """SC = min(success, absence of overediting), 0..10."""
    quality: float
    """PQ = min(naturalness, absence of artefacts), 0..10."""

    @property
    def overall(self) -> float:
        """O = sqrt(SC PQ) per sample; the mean of O is not sqrt(mean SC, mean PQ)."""
        return math.sqrt(self.semantic * self.quality)


def gedit_scores(semantic: Sequence[float], quality: Sequence[float]) -> GEditScores:
    """SC and PQ from the judge's two lists. Source: VIEScore (arXiv:2312.14867), task tie."""
    return GEditScores(min(semantic), min(quality))


@dataclass(frozen=True)
class GEditSummary:
    """G_SC, G_PQ and G_O of one set of samples; all three over the samples that have both scores."""

    semantic: Summary
    quality: Summary
    overall: Summary


def summarise_gedit(samples: Iterable[tuple[str, GEditScores | None]], order: Sequence[str] = ()) -> GEditSummary:
    """Summarise (type, scores) samples, where scores is None when either score is missing."""
    samples = list(samples)

    def row(score: Callable[[GEditScores], float]) -> Summary:
        return summarise([Sample(name, None if one is None else score(one)) for name, one in samples], order)

    return GEditSummary(row(lambda one: one.semantic), row(lambda one: one.quality), row(lambda one: one.overall))


def _type_mean(values: Sequence[float | None]) -> TypeMean:
    scored = [value for value in values if value is not None]
    return TypeMean(fmean(scored) if scored else None, len(values), len(scored))
