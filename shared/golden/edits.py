"""Golden edits: images of known quality, used to check that a judge's scores are meaningful.

Reads a directory of `NN/{source,done,half,untouched,wrong}.png` with `instruction.txt` and optionally `task.txt`
(`half` is optional too) into groups to score, and computes from their scores how often the better edit won.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from edit_r1.shared.errors import ConfigError
from edit_r1.shared.schemas import DEFAULT_TASK, CandidateError, EditGroup, ScoreResponse

QUALITIES = ("done", "half", "untouched", "wrong")
"""From best to worst. A wrong edit does something other than asked; most judges score it like an untouched image."""
MIN_ORDERED_SHARE = 0.75
"""Minimum share of (done, untouched) and (done, wrong) pairs in the right order; below it the scores would mislead."""

MIN_SCORE_MASS = 0.5
"""Default of the minimum score mass."""
_WORDINGS = (("score_logit", "score_logit_direct"), ("yes_no_logit", "yes_no_logit_direct"))
_OTHER_WORDING = {one: other for pair in _WORDINGS for one, other in (pair, pair[::-1])}
"""Method -> the method that asks the same in another wording."""

Pair = tuple[str, str]
"""(better, worse) of two qualities."""
PAIRS: tuple[Pair, ...] = tuple(itertools.combinations(QUALITIES, 2))


@dataclass(frozen=True)
class Golden:
    """One instruction with edits of known quality."""

    name: str
    task: str
    qualities: tuple[str, ...]
    """Qualities of `group.candidates`, in the same order."""
    group: EditGroup


def read_calibration(directory: Path) -> list[Golden]:
    """The golden edits in a directory, sorted by name.

    Raises:
        ConfigError: the directory contains none, or a file is missing.

    """
    folders = sorted(path.parent for path in directory.glob("*/instruction.txt"))
    if not folders:
        raise ConfigError(f"calibration: no */instruction.txt in {directory}")
    try:
        return [_golden(folder) for folder in folders]
    except OSError as error:
        raise ConfigError(f"calibration: {error}") from error


def scores_by_quality(golden: Golden, answer: ScoreResponse) -> dict[str, float]:
    """Score of each quality in one golden group; failed candidates are left out."""
    pairs = zip(golden.qualities, answer.results, strict=True)
    return {quality: result.score for quality, result in pairs if not isinstance(result, CandidateError)}


def ordered_shares(scores: Sequence[Mapping[str, float]]) -> dict[Pair, float]:
    """Share of golden groups in which the better edit of each pair of qualities scored strictly higher.

    Args:
        scores: one table per golden group, quality -> score; a pair counts where both scores exist.

    """
    found: dict[Pair, float] = {}
    for better, worse in PAIRS:
        wins = [one[better] > one[worse] for one in scores if better in one and worse in one]
        if wins:
            found[better, worse] = fmean(wins)
    return found


def required_share(scores: Sequence[Mapping[str, float]]) -> float:
    """Share of pairs in which a done edit beat an untouched or wrong one; 0 if there are no such pairs."""
    wins = [
        one["done"] > one[worse] for one in scores for worse in ("untouched", "wrong") if {"done", worse} <= set(one)
    ]
    return fmean(wins) if wins else 0.0


def mean_mass(answers: Sequence[ScoreResponse]) -> float | None:
    """Mean score mass of all scored candidates; None for methods that read no probabilities."""
    results = [result for answer in answers for result in answer.results if not isinstance(result, CandidateError)]
    masses = [result.score_mass for result in results if result.score_mass is not None]
    return fmean(masses) if masses else None


def low_mass(method: str, mass: float, limit: float) -> str:
    """A message about a score mass below its limit, with the remedies."""
    wording = f"the other wording ({_OTHER_WORDING[method]}), " if method in _OTHER_WORDING else ""
    return (
        f"{method}: the judge puts a probability of only {mass:.3f} on its labels, and at least {limit:g} is needed "
        f"for their distribution to mean something; try {wording}a prompt of your own with an answer prefix "
        f"(--prompts), or a method that reasons first (score_logit_cot)"
    )


def _golden(folder: Path) -> Golden:
    task = folder / "task.txt"
    name = task.read_text(encoding="utf-8").strip() if task.exists() else None
    qualities = tuple(quality for quality in QUALITIES if quality != "half" or (folder / "half.png").exists())
    group = EditGroup(
        instruction=(folder / "instruction.txt").read_text(encoding="utf-8"),
        task=name,
        sources=((folder / "source.png").read_bytes(),),
        candidates=tuple((folder / f"{quality}.png").read_bytes() for quality in qualities),
    )
    return Golden(folder.name, name or DEFAULT_TASK, qualities, group)
