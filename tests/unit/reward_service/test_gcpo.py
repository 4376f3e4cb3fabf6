"""The contrastive preference objective, checked against its definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edit_r1.reward_service.judge_training.gcpo import UNREADABLE, clipped_surrogate, contrastive_advantages, win_ratios

SUMS = st.lists(st.sampled_from([UNREADABLE, 0.0, 1.0, 2.0, 3.0]), min_size=4, max_size=4)


@given(SUMS, SUMS)
def test_win_ratios_are_the_shares_of_comparisons_won(preferred, rejected):
    won, lost = win_ratios(torch.tensor(preferred), torch.tensor(rejected))
    for j, mine in enumerate(preferred):
        assert won[j] == sum(mine > other > UNREADABLE for other in rejected) / 4
    for j, mine in enumerate(rejected):
        assert lost[j] == sum(other > mine > UNREADABLE for other in preferred) / 4


@given(SUMS, SUMS)
def test_advantages_are_centred_on_each_side(preferred, rejected):
    for side in contrastive_advantages(torch.tensor(preferred), torch.tensor(rejected)):
        assert float(side.sum()) == pytest.approx(0, abs=1e-6)


def test_the_best_chain_about_the_preferred_edit_is_encouraged_and_about_the_rejected_one_not():
    good, bad = contrastive_advantages(torch.tensor([3.0, 1.0]), torch.tensor([2.0, 0.0]))
    assert good[0] > good[1]
    assert bad[0] < bad[1]


def test_a_chain_that_cannot_be_read_is_never_encouraged():
    good, bad = contrastive_advantages(torch.tensor([UNREADABLE, 2.0]), torch.tensor([UNREADABLE, 1.0]))
    assert good[0] < 0 < good[1]
    assert bad[0] < 0 < bad[1]


def test_on_the_first_update_the_gradient_is_the_policy_gradient():
    logprobs = torch.tensor([[-0.5, -1.0], [-0.2, 0.0]], requires_grad=True)
    mask, advantages = torch.tensor([[1.0, 1.0], [1.0, 0.0]]), torch.tensor([0.5, -0.5])
    clipped_surrogate(logprobs, logprobs.detach(), mask, advantages, 0.2).backward()
    # -A / (tokens of the chain) / (chains)
    assert logprobs.grad is not None
    torch.testing.assert_close(logprobs.grad, torch.tensor([[-0.125, -0.125], [0.25, 0.0]]))


def test_what_has_moved_enough_moves_no_further():
    old = torch.tensor([[-1.0], [-1.0]])
    logprobs = torch.tensor([[-0.5], [-1.5]], requires_grad=True)  # the good one likelier, the bad one less
    clipped_surrogate(logprobs, old, torch.ones(2, 1), torch.tensor([1.0, -1.0]), 0.2).backward()
    assert logprobs.grad is not None
    assert not logprobs.grad.any()
