"""Properties of aggregated sub-scores, for any list of principles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edit_r1.reward_service.mathematics.aggregation import (
    category_means,
    gated,
    geometric_mean,
    verifier_reward,
    weighted_mean,
)
from edit_r1.reward_service.types import Principle

SHARES = st.floats(0, 1)
WEIGHTS = st.floats(0.1, 10)
CHECKS = st.lists(
    st.tuples(st.builds(Principle, st.just("?"), st.sampled_from(["follow", "keep", "quality"]), WEIGHTS), SHARES),
    min_size=1,
    max_size=12,
)


@given(CHECKS)
def test_the_reward_is_a_share_and_never_beats_following(checks):
    principles, scores = zip(*checks, strict=True)
    reward = verifier_reward(principles, scores)
    assert -1e-9 <= reward <= 1 + 1e-9
    follow = category_means(principles, scores).get("follow")
    if follow is not None:
        assert reward <= follow + 1e-9


@given(CHECKS, st.integers(0, 11), SHARES)
def test_a_better_check_never_lowers_the_reward(checks, index, better):
    principles, scores = zip(*checks, strict=True)
    index %= len(scores)
    raised = [max(score, better) if i == index else score for i, score in enumerate(scores)]
    assert verifier_reward(principles, raised) >= verifier_reward(principles, scores) - 1e-9


def test_an_edit_that_follows_nothing_earns_nothing_for_keeping_all():
    principles = [Principle("done?", "follow"), Principle("kept?", "keep"), Principle("clean?", "quality")]
    assert verifier_reward(principles, [0.0, 1.0, 1.0]) == 0
    assert verifier_reward(principles, [1.0, 0.5, 0.0]) == pytest.approx(0.5)
    assert verifier_reward(principles, [0.5, 1.0, 1.0]) == pytest.approx(0.5)


def test_without_a_follow_principle_the_reward_is_the_weighted_mean():
    principles = [Principle("kept?", "keep", 3.0), Principle("clean?", "quality", 1.0)]
    assert verifier_reward(principles, [1.0, 0.0]) == pytest.approx(0.75)


@given(SHARES, SHARES, WEIGHTS, WEIGHTS)
def test_execution_gates_consistency(execution, consistency, w1, w2):
    reward = gated(execution, consistency, w1, w2)
    assert execution * w1 / (w1 + w2) - 1e-9 <= reward <= execution + 1e-9
    assert gated(execution, 1.0, w1, w2) == pytest.approx(execution)


@given(st.lists(st.tuples(SHARES, WEIGHTS), min_size=1, max_size=6))
def test_the_geometric_mean_lies_between_the_least_and_the_weighted_mean(pairs):
    values, weights = zip(*pairs, strict=True)
    assert min(values) - 1e-9 <= geometric_mean(values, weights) <= weighted_mean(values, weights) + 1e-9
