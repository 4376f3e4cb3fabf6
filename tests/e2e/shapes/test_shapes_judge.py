"""The committed judge agrees with the oracle on held-out edits, for every method."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from edit_r1.worlds.shapes.studies.edit_sets import (
    EditSet,
    Scores,
    agreement,
    corruption_set,
    editor_set,
    judge_set,
    make_scorer,
    score_set,
    untouched_set,
)
from edit_r1.worlds.shapes.studies.judge_table import ALONE
from edit_r1.worlds.shapes.training.judge_trainer import pairwise_accuracy

# A lower limit would let random guessing pass. UnifiedReward sees only the edit, not what should be kept.
LEAST_ACCURACY = dict.fromkeys(ALONE, 0.7) | {"unified_reward": 0.55, "editscore": 0.6}


@pytest.fixture(scope="module")
def corruptions() -> EditSet:
    return corruption_set(60, 6)


@pytest.fixture(scope="module")
def candidates(shapes_dir: Path) -> EditSet:
    return editor_set(shapes_dir / "editor", 30, 12)


def _score(shapes_dir: Path, edits: EditSet, method: str) -> Scores:
    return asyncio.run(score_set(make_scorer(shapes_dir / "judge"), edits, method))


def test_score_logit_agrees_with_the_oracle_and_sampling_agrees_less(
    shapes_dir: Path, corruptions: EditSet, candidates: EditSet
) -> None:
    for edits, bar in ((corruptions, 0.90), (candidates, 0.80)):
        by_logit = agreement(_score(shapes_dir, edits, "score_logit"), edits.oracle)
        by_sampling = agreement(_score(shapes_dir, edits, "score_sampling"), edits.oracle)
        assert by_logit["pairwise_accuracy"] >= bar
        assert by_logit["pairwise_accuracy"] > by_sampling["pairwise_accuracy"]


@pytest.mark.parametrize("method", ALONE)
def test_every_method_tells_right_from_wrong(shapes_dir: Path, corruptions: EditSet, method: str) -> None:
    few = EditSet(corruptions.name, corruptions.tasks[:12], corruptions.edits[:12], corruptions.oracle[:12])
    scores = _score(shapes_dir, few, method)
    assert np.isnan(scores).mean() < 0.05
    assert agreement(scores, few.oracle)["pairwise_accuracy"] > LEAST_ACCURACY[method]


@pytest.mark.parametrize("method", ["score_logit", "yes_no_logit"])
def test_the_judge_answers_after_a_prefix_too(shapes_dir: Path, corruptions: EditSet, method: str) -> None:
    scorer = make_scorer(shapes_dir / "judge", built_in_prompts=True)
    scores, masses = asyncio.run(judge_set(scorer, corruptions, method))
    assert agreement(scores, corruptions.oracle)["pairwise_accuracy"] > 0.85
    assert masses.mean() > 0.95


def test_an_untouched_source_earns_little(shapes_dir: Path) -> None:
    edits = untouched_set(60)
    assert _score(shapes_dir, edits, "score_logit").mean() < 0.15


def test_pairwise_accuracy_counts_ties_half_and_ignores_near_equals() -> None:
    oracle = np.array([[0.0, 0.5, 0.55, 1.0]])
    assert pairwise_accuracy(oracle, oracle) == (1.0, 5)
    assert pairwise_accuracy(-oracle, oracle) == (0.0, 5)
    assert pairwise_accuracy(np.zeros_like(oracle), oracle) == (0.5, 5)
