import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edit_r1.trainer.mathematics.advantage import advantages, complete_rewards, optimality, weighted_advantages

REWARDS = arrays(np.float64, (4, 6), elements=st.floats(0, 1))
STD = st.sampled_from(["global", "group"])


@settings(deadline=None)
@given(REWARDS)
def test_global_advantages_are_centred_by_group_and_scaled_by_the_epoch(rewards):
    ours = advantages(torch.tensor(rewards), std="global").numpy()
    np.testing.assert_allclose(ours, (rewards - rewards.mean(1, keepdims=True)) / (rewards.std() + 1e-4), atol=1e-9)


@settings(deadline=None)
@given(REWARDS)
def test_group_advantages_use_the_groups_own_std(rewards):
    ours = advantages(torch.tensor(rewards), std="group").numpy()
    expected = (rewards - rewards.mean(1, keepdims=True)) / (rewards.std(1, keepdims=True) + 1e-4)
    np.testing.assert_allclose(ours, expected, atol=1e-9)


@settings(deadline=None)
@given(REWARDS, STD, st.integers(0, 3), st.integers(0, 5))
def test_a_missing_score_is_as_if_never_sampled(rewards, std, group, candidate):
    missing = rewards.copy()
    missing[group, candidate] = np.nan
    ours = advantages(torch.tensor(missing), std=std).numpy()

    others = np.delete(rewards[group], candidate)
    all_others = np.delete(rewards.flatten(), group * 6 + candidate)
    scale = (others if std == "group" else all_others).std() + 1e-4
    np.testing.assert_allclose(np.delete(ours[group], candidate), (others - others.mean()) / scale, atol=1e-9)
    assert np.isnan(ours[group, candidate])
    assert np.isfinite(np.delete(ours, group, axis=0)).all()


def test_a_group_without_any_score_leaves_the_others_alone():
    rewards = torch.tensor([[0.1, 0.9, 0.4], [np.nan] * 3, [0.2, 0.3, 0.8]])
    ours = advantages(rewards)
    assert ours[1].isnan().all()
    torch.testing.assert_close(ours[[0, 2]], advantages(rewards[[0, 2]]))


def test_groups_can_be_kept_out_of_the_global_std():
    rewards = torch.tensor([[0.1, 0.9], [0.5, 0.5]], dtype=torch.float64)
    ours = advantages(rewards, in_global_std_P=torch.tensor([True, False]))
    torch.testing.assert_close(ours[0], (rewards[0] - 0.5) / (0.4 + 1e-4))


@settings(deadline=None)
@given(REWARDS, st.floats(0.5, 10))
def test_optimality_is_in_range_and_rises_with_the_reward_of_a_group(rewards, adv_clip):
    rho = optimality(advantages(torch.tensor(rewards)), adv_clip=adv_clip).numpy()
    assert ((rho >= 0) & (rho <= 1)).all()
    for group, reward in zip(rho, rewards, strict=True):
        assert (np.diff(group[np.argsort(reward, kind="stable")]) >= -1e-12).all()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("all", [0.0, 0.4, 0.5, 0.6, 1.0]),
        ("positive_only", [0.5, 0.5, 0.5, 0.6, 1.0]),
        ("negative_only", [0.0, 0.4, 0.5, 0.5, 0.5]),
        ("one_only", [0.5, 0.5, 0.5, 0.6, 0.6]),
        ("binary", [0.4, 0.4, 0.5, 0.6, 0.6]),
    ],
)
def test_modes_of_optimality(mode, expected):
    given_advantages = torch.tensor([[-7.0, -1.0, 0.0, 1.0, 7.0]])
    torch.testing.assert_close(optimality(given_advantages, adv_clip=5.0, mode=mode), torch.tensor([expected]))


@pytest.mark.parametrize("mode", ["all", "positive_only", "negative_only", "one_only", "binary"])
def test_a_missing_advantage_stays_missing(mode):
    assert optimality(torch.tensor([[float("nan"), 1.0]]), mode=mode).isnan().tolist() == [[True, False]]


def test_a_reward_counts_by_its_weight_and_not_by_its_spread():
    rewards = torch.rand(3, 4, dtype=torch.float64)
    other = torch.rand(3, 4, dtype=torch.float64)
    rewards[1, 2] = other[1, 2] = float("nan")
    weights = {"wide": 3.0, "narrow": 1.0}
    found = weighted_advantages({"wide": rewards, "narrow": other * 1e-2}, weights)
    assert found.isnan().sum() == 1
    wanted = (3 * advantages(rewards) + advantages(other * 1e-2)) / 4
    torch.testing.assert_close(found, wanted, equal_nan=True)
    torch.testing.assert_close(weighted_advantages({"x": other}, {"x": 0.2}), advantages(other), equal_nan=True)
    # Nearly unchanged at a hundred times the spread: only the floor of the std makes a difference.
    same = weighted_advantages({"wide": rewards, "narrow": other}, weights)
    torch.testing.assert_close(found, same, atol=0.05, rtol=0, equal_nan=True)


GAPS = arrays(np.float64, (4, 6), elements=st.one_of(st.floats(0, 1), st.just(np.nan)))


@settings(deadline=None)
@given(GAPS, GAPS, st.floats(0.1, 10), STD)
def test_a_candidate_that_lacks_one_reward_is_as_if_never_sampled(first, second, weight, std):
    rewards = {"a": torch.tensor(first), "b": torch.tensor(second)}
    ours = weighted_advantages(rewards, {"a": weight, "b": 1.0}, std=std)
    missing = np.isnan(first) | np.isnan(second)
    assert (ours.isnan().numpy() == missing).all()
    complete = {name: one.clone() for name, one in rewards.items()}
    for one in complete.values():
        one[torch.tensor(missing)] = torch.nan
    parts = {name: advantages(one, std=std) for name, one in complete.items()}
    torch.testing.assert_close(ours, (weight * parts["a"] + parts["b"]) / (weight + 1), equal_nan=True)
    # The advantage of each group is centred, whatever is missing.
    assert (ours.nanmean(1)[~ours.isnan().all(1)].abs() < 1e-9).all()


@settings(deadline=None)
@given(REWARDS, REWARDS, st.floats(0.1, 10))
def test_one_reward_is_its_own_advantage_and_weights_are_relative(first, second, weight):
    a, b = torch.tensor(first), torch.tensor(second)
    assert torch.equal(weighted_advantages({"reward": a}, {"reward": 1.0}), advantages(a))
    doubled = weighted_advantages({"a": a, "b": b}, {"a": 2 * weight, "b": 2.0})
    torch.testing.assert_close(doubled, weighted_advantages({"a": a, "b": b}, {"a": weight, "b": 1.0}))


def test_a_muted_group_keeps_the_other_rewards_advantages_and_what_is_missing():
    a = torch.tensor([[0.1, 0.9, np.nan], [0.2, 0.4, 0.6]], dtype=torch.float64)
    b = torch.tensor([[0.95, 0.96, 0.97], [0.1, 0.2, 0.3]], dtype=torch.float64)
    muted = {"a": torch.tensor([False, False]), "b": torch.tensor([True, False])}
    ours = weighted_advantages({"a": a, "b": b}, {"a": 1.0, "b": 1.0}, muted_P=muted)
    complete = complete_rewards({"a": a, "b": b})
    torch.testing.assert_close(ours[0, :2], advantages(complete["a"])[0, :2] / 2)
    assert ours[0, 2].isnan()
    torch.testing.assert_close(ours[1], (advantages(complete["a"])[1] + advantages(complete["b"])[1]) / 2)
