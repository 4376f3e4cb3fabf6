"""The exact sign test."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edit_r1.workbench.significance import sign_test


def binomial(num_wins, num_losses):
    return stats.binomtest(num_wins, num_wins + num_losses).pvalue


@given(st.integers(0, 60), st.integers(1, 60))
def test_it_is_the_binomial_test_of_a_fair_coin(num_wins, num_losses):
    assert sign_test(num_wins, num_losses) == pytest.approx(binomial(num_wins, num_losses))
    assert sign_test(num_wins, num_losses) == sign_test(num_losses, num_wins)


def test_known_values():
    assert sign_test(9, 1) == pytest.approx(22 / 1024)
    assert sign_test(0, 0) == sign_test(3, 3) == 1.0


def test_thousands_of_pairs_are_as_exact_as_a_few():
    assert sign_test(10_300, 9_900) == pytest.approx(binomial(10_300, 9_900))
    assert 0 < sign_test(737, 0) < 1e-200
