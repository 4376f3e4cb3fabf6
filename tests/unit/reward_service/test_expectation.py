"""Label log-probabilities -> expected score, distribution, mass (paper Eq. 10 and 11)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edit_r1.reward_service.mathematics.expectation import expectation, normalise
from edit_r1.shared.errors import UnparsableAnswerError

VALUES = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
log_probabilities = st.lists(st.floats(-80, 0), min_size=6, max_size=6)


@given(log_probabilities)
def test_is_the_mean_of_a_distribution_over_the_labels(logprobs):
    found = expectation(logprobs, VALUES)
    assert math.isclose(sum(found.probabilities), 1.0, abs_tol=1e-12)
    assert -1e-12 <= found.value <= 5 + 1e-12
    assert math.isclose(found.value, sum(p * v for p, v in zip(found.probabilities, VALUES, strict=True)))


@given(log_probabilities, st.floats(-20, 20))
def test_only_differences_of_log_probabilities_matter_for_the_score(logprobs, shift):
    shifted = expectation([logprob + shift for logprob in logprobs], VALUES)
    assert math.isclose(expectation(logprobs, VALUES).value, shifted.value, abs_tol=1e-9)


@given(st.lists(st.floats(0.001, 1.0), min_size=6, max_size=6), st.floats(0.01, 1.0))
def test_mass_is_the_probability_of_all_labels_in_the_full_vocabulary(weights, mass):
    probabilities = [mass * weight / sum(weights) for weight in weights]
    found = expectation([math.log(p) for p in probabilities], VALUES)
    assert math.isclose(found.mass, mass, rel_tol=1e-9)


def test_a_certain_judge_gets_its_label():
    found = expectation([-math.inf, -math.inf, -math.inf, -math.inf, 0.0, -math.inf], VALUES)
    assert (found.value, found.mass) == (4.0, 1.0)


def test_more_weight_on_higher_labels_scores_higher():
    low = expectation([math.log(p) for p in (0.5, 0.3, 0.1, 0.05, 0.03, 0.02)], VALUES)
    high = expectation([math.log(p) for p in (0.02, 0.03, 0.05, 0.1, 0.3, 0.5)], VALUES)
    assert math.isclose(low.value, 0.87)
    assert math.isclose(high.value, 4.13)


@pytest.mark.parametrize("logprobs", [[-math.inf] * 6, [math.nan, *[-1.0] * 5]])
def test_no_opinion_is_an_error_not_a_score(logprobs):
    with pytest.raises(UnparsableAnswerError, match="no usable"):
        expectation(logprobs, VALUES)


@pytest.mark.parametrize(("raw", "low", "high", "wanted"), [(4.0, 0, 5, 0.8), (0, 0, 5, 0), (5 + 1e-15, 0, 5, 1)])
def test_normalise(raw, low, high, wanted):
    assert math.isclose(normalise(raw, low, high), wanted)
