"""Pairs to compare and scores from comparisons."""

from collections import Counter
from itertools import combinations
from math import exp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edit_r1.reward_service.mathematics.comparisons import largest_linked, schedule, unaffected, win_rates

SEEDS = st.integers(0, 2**63)


def connected(num, pairs):
    reached = {0}
    while more := {place for pair in pairs if reached & {*pair} for place in pair} - reached:
        reached |= more
    return len(reached) == num


@given(st.integers(2, 64), st.integers(2, 20), SEEDS)
def test_all_candidates_are_compared_equally_often_and_all_are_linked(num, opponents, seed):
    pairs = schedule(num, opponents, seed)
    assert len(set(pairs)) == len(pairs)
    assert all(0 <= i < j < num for i, j in pairs)
    (degree,) = set(Counter(place for pair in pairs for place in pair).values())
    odd = num * opponents % 2 if opponents < num - 1 else 0
    assert degree == min(num - 1, opponents) - odd
    assert connected(num, pairs)
    assert schedule(num, opponents, seed) == pairs


@given(st.integers(2, 9), SEEDS)
def test_with_all_pairs_a_score_is_the_mean_share_of_wins(num, seed):
    random = np.random.default_rng(seed)
    wins = {pair: random.random() for pair in combinations(range(num), 2)}
    rates = win_rates(range(num), wins)
    both = wins | {(j, i): 1 - share for (i, j), share in wins.items()}
    for place, rate in rates.items():
        assert rate == pytest.approx(sum(both[place, other] for other in range(num) if other != place) / (num - 1))
    assert sum(rates.values()) == pytest.approx(num / 2)


@given(st.integers(8, 40), st.integers(4, 6), SEEDS)
def test_a_part_of_the_pairs_gives_the_scores_of_all(num, opponents, seed):
    random = np.random.default_rng(seed)
    strengths = [*random.uniform(-2, 2, num)]
    share = {(i, j): 1 / (1 + exp(strengths[j] - strengths[i])) for i in range(num) for j in range(num)}
    pairs = schedule(num, opponents, seed)
    rates = win_rates(range(num), {pair: share[pair] for pair in pairs})
    for i, rate in rates.items():
        assert rate == pytest.approx(sum(share[i, j] for j in range(num) if j != i) / (num - 1), abs=0.03)


@given(st.integers(5, 24), SEEDS, st.sampled_from([(0.0, 1.0), (0.0, 0.5, 1.0), (0.2, 0.9)]))
def test_scores_are_in_range_and_do_not_depend_on_names(num, seed, results):
    random = np.random.default_rng(seed)
    wins = {pair: float(random.choice(results)) for pair in schedule(num, 3 + num % 2, seed)}
    rates = win_rates(range(num), wins)
    assert all(0 <= rate <= 1 for rate in rates.values())
    assert sum(rates.values()) == pytest.approx(num / 2)
    names = [int(name) for name in random.permutation(100)[:num]]
    renamed = win_rates(names, {(names[i], names[j]): share for (i, j), share in wins.items()})
    assert [renamed[name] for name in names] == pytest.approx(list(rates.values()))


def test_a_failing_candidate_goes_and_the_others_stay():
    assert unaffected(range(4), []) == {0, 1, 2, 3}
    assert unaffected(range(4), [(2, 0), (1, 2), (2, 3)]) == {0, 1, 3}
    assert unaffected(range(4), [(1, 3)]) == {0, 2}
    assert unaffected(range(2), [(0, 1)]) == set()


def test_candidates_without_a_link_have_no_common_scale():
    assert largest_linked(range(6), {(0, 1), (3, 4), (4, 5), (5, 3)}) == {3, 4, 5}
    assert largest_linked([4, 7], {(4, 7)}) == {4, 7}
    assert largest_linked([], set()) == set()


@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda pair: pair[0] != pair[1])))
def test_no_failure_is_left(failures):
    left = unaffected(range(8), list(failures))
    assert not [failure for failure in failures if left.issuperset(failure)]
