import pytest
import torch

from edit_r1.trainer.mathematics.filtering import (
    RULES,
    FilterThresholds,
    filter_groups,
    filter_jointly,
    group_statistics,
    num_dropped_by_rule,
    solved_groups,
)

NAN = float("nan")
# The four quadrants of (mean, spread) at tau_mean 0.9, tau_spread 0.05: one group each.
HIGH_NARROW = [0.97, 0.98, 0.99, 0.98]
HIGH_WIDE = [1.0, 1.0, 0.75, 1.0]
LOW_NARROW = [0.20, 0.21, 0.20, 0.21]
LOW_WIDE = [0.1, 0.9, 0.3, 0.6]
QUADRANTS = torch.tensor([HIGH_NARROW, HIGH_WIDE, LOW_NARROW, LOW_WIDE], dtype=torch.float64)


def test_the_groups_are_in_the_quadrants_they_claim():
    statistics = group_statistics(QUADRANTS)
    assert (statistics.mean_P > 0.9).tolist() == [True, True, False, False]
    assert (statistics.spread_P < 0.05).tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("paper", [False, True, True, True]),
        ("strict", [False, False, False, True]),
        ("range", [False, True, False, True]),
        ("none", [True, True, True, True]),
    ],
)
def test_each_rule_in_all_four_quadrants(rule, kept):
    verdict = filter_groups(QUADRANTS, rule, FilterThresholds())
    assert verdict.kept_P.tolist() == kept
    assert verdict.reasons == tuple(None if keep else rule for keep in kept)


def test_only_high_and_narrow_groups_are_solved_whatever_the_rule_drops():
    # The published filter: `strict` drops all but the last quadrant, but only tasks of the first are banned.
    assert solved_groups({"reward": QUADRANTS}, FilterThresholds()).tolist() == [True, False, False, False]
    assert solved_groups({"reward": QUADRANTS}, FilterThresholds(tau_mean=0.99)).tolist() == [False] * 4
    assert solved_groups({"reward": QUADRANTS}, FilterThresholds(spread="variance")).tolist() == [
        True,
        True,
        False,
        False,
    ]


def test_a_group_below_its_quorum_is_not_solved():
    rewards = torch.tensor([[0.99, NAN, NAN], [0.99, 0.98, NAN], [NAN, NAN, NAN]])
    assert solved_groups({"reward": rewards}, FilterThresholds(quorum=2)).tolist() == [False, True, False]


def test_spread_can_be_the_variance():
    # std 0.108 is above 0.05, variance 0.012 is below: the group is narrow only by variance.
    assert filter_groups(QUADRANTS, "paper", FilterThresholds(spread="variance")).kept_P.tolist() == [
        False,
        False,
        True,
        True,
    ]


def test_a_group_below_its_quorum_is_dropped_under_every_rule_and_says_so():
    rewards = torch.tensor([[0.5, NAN, NAN], [0.1, 0.9, NAN], [NAN, NAN, NAN]])
    for rule in RULES:
        verdict = filter_groups(rewards, rule, FilterThresholds(quorum=2))
        assert verdict.kept_P.tolist() == [False, True, False]
        assert verdict.reasons == ("below_quorum", None, "below_quorum")


@pytest.mark.parametrize("rule", RULES)
def test_a_group_is_kept_for_each_reward_that_it_can_still_teach(rule):
    other = QUADRANTS.flip(0)
    alone = {
        "a": filter_groups(QUADRANTS, rule, FilterThresholds()),
        "b": filter_groups(other, rule, FilterThresholds()),
    }
    joint = filter_jointly({"a": QUADRANTS, "b": other}, rule, FilterThresholds())
    assert joint.groups.kept_P.tolist() == (alone["a"].kept_P | alone["b"].kept_P).tolist()
    assert joint.groups.reasons == tuple(None if keep else rule for keep in joint.groups.kept_P.tolist())
    for name, mask in alone.items():
        assert joint.by_reward[name].tolist() == mask.kept_P.tolist()
        assert joint.muted[name].tolist() == (joint.groups.kept_P & ~mask.kept_P).tolist()
    single = filter_jointly({"reward": QUADRANTS}, rule, FilterThresholds())
    assert single.groups.kept_P.tolist() == alone["a"].kept_P.tolist()
    assert single.groups.reasons == alone["a"].reasons
    assert not single.muted["reward"].any()


def test_of_several_rewards_the_quorum_counts_candidates_that_have_all_and_all_must_be_solved():
    a = torch.tensor([[0.99, 0.98, NAN], [0.99, 0.98, 0.97], [0.99, 0.98, 0.97]])
    b = torch.tensor([[0.99, NAN, 0.98], [0.1, 0.9, 0.5], [0.98, 0.97, 0.99]])
    joint = filter_jointly({"a": a, "b": b}, "none", FilterThresholds(quorum=2))
    assert joint.groups.reasons == ("below_quorum", None, None)
    assert solved_groups({"a": a, "b": b}, FilterThresholds(quorum=2)).tolist() == [False, False, True]


def test_missing_scores_take_no_part_in_the_statistics():
    with_missing = group_statistics(torch.tensor([[0.1, NAN, 0.5]]))
    without = group_statistics(torch.tensor([[0.1, 0.5]]))
    for name in ("mean_P", "spread_P", "range_P", "num_scored_P"):
        torch.testing.assert_close(getattr(with_missing, name), getattr(without, name))


def test_what_every_rule_would_drop_is_counted():
    assert num_dropped_by_rule({"reward": QUADRANTS}, FilterThresholds()) == {
        "paper": 1,
        "strict": 3,
        "range": 2,
        "none": 0,
    }
