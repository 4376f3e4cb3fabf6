"""Two editors on the same items: win rates, differences and their uncertainty."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edit_r1.workbench.evaluation.comparison import Paired, bootstrap, compare, pair, wilson

scores = st.floats(0, 5)
pairs = st.lists(st.builds(Paired, st.just("key"), st.sampled_from("abc"), scores, scores), min_size=1, max_size=30)


def random(seed=0):
    return np.random.default_rng(seed)


@given(pairs)
def test_shares_add_up_and_lie_in_their_intervals(judged):
    outcome = compare(judged, random(), num_resamples=50)
    shares = (outcome.wins, outcome.ties, outcome.losses)
    assert sum(share.estimate for share in shares) == pytest.approx(1)
    for share in shares:
        assert 0 <= share.low <= share.estimate <= share.high <= 1


@given(pairs)
def test_swapping_the_editors_mirrors_everything(judged):
    there = compare(judged, random(), num_resamples=50)
    back = compare([Paired(one.key, one.type, one.second, one.first) for one in judged], random(), num_resamples=50)
    assert (there.num_wins, there.num_losses) == (back.num_losses, back.num_wins)
    assert there.sign_test_p == back.sign_test_p
    for mine, other in (
        (there.item_difference, back.item_difference),
        (there.macro_difference, back.macro_difference),
    ):
        assert mine.estimate == pytest.approx(-other.estimate)
        assert mine.low == pytest.approx(-other.high, abs=1e-9)


@given(pairs, st.floats(0.1, 3))
def test_a_constant_gain_is_certain(judged, gain):
    shifted = [Paired(one.key, one.type, one.first, one.first + gain) for one in judged]
    outcome = compare(shifted, random(), num_resamples=50)
    for difference in (outcome.item_difference, outcome.macro_difference):
        assert difference.low == pytest.approx(difference.high) == pytest.approx(gain)
    assert outcome.num_wins == len(judged)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    truth, draws = random(1), 300
    covered = 0
    for _ in range(draws):
        interval = bootstrap([truth.normal(0.3, 1, 60)], random(2), 300, 0.9)
        covered += interval.low <= 0.3 <= interval.high
    assert 0.83 <= covered / draws <= 0.95


def test_the_macro_difference_weighs_types_alike():
    judged = [Paired("0", "rare", 0, 4), *(Paired(str(i), "common", 0, 0) for i in range(1, 10))]
    outcome = compare(judged, random())
    assert outcome.macro_difference.estimate == 2
    assert outcome.item_difference.estimate == pytest.approx(0.4)


def test_only_items_that_both_have_scored_are_compared():
    first = {"0": ("a", 1.0), "1": ("a", None), "2": ("b", 3.0), "3": ("b", 2.0)}
    second = {"3": ("b", 5.0), "0": ("a", None), "1": ("a", 2.0), "2": ("b", 3.0), "4": ("b", 1.0)}
    assert pair(first, second) == [Paired("2", "b", 3.0, 3.0), Paired("3", "b", 2.0, 5.0)]


def test_rounding_is_no_win():
    outcome = compare([Paired("0", "a", 0.1 + 0.2, 0.3)], random())
    assert (outcome.num_wins, outcome.num_losses, outcome.sign_test_p) == (0, 0, 1.0)


def test_wilsons_interval_of_eight_in_ten():
    interval = wilson(8, 10)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.4902, 0.9433)


@given(st.integers(0, 40), st.integers(1, 40))
def test_more_evidence_narrows_the_interval(wins, losses):
    few, many = wilson(wins, wins + losses), wilson(10 * wins, 10 * (wins + losses))
    assert many.high - many.low < few.high - few.low


def test_nothing_to_compare_is_an_error():
    with pytest.raises(ValueError, match="no pairs"):
        compare([], random())
