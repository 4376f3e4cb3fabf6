"""Best of N over all subsets, compared with enumerating them."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.best_of_n import best_of


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.floats(0, 1)), min_size=2, max_size=7), st.data())
def test_it_is_the_mean_over_all_subsets(group, data):
    size = data.draw(st.integers(1, len(group)))
    chosen = []
    for subset in combinations(group, size):
        best = max(score for score, _ in subset)
        # Ties are equally likely to be chosen, so average them per subset.
        chosen.append(np.mean([value for score, value in subset if score == best]))
    scores, values = (np.array([column]) for column in zip(*group, strict=True))
    assert best_of(scores, values, size) == pytest.approx(np.mean(chosen))


def test_a_missing_score_is_not_chosen():
    scores, values = np.array([[np.nan, 0.2]]), np.array([[1.0, 0.0]])
    assert best_of(scores, values, 2) == 0.0
    assert best_of(scores, values, 1) == 0.5
