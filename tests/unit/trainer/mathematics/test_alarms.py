import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edit_r1.trainer.mathematics.alarms import ALARMS, AlarmLimits, agreement, find_alarms, unedited_distance

LIMITS = AlarmLimits(
    window=3,
    min_group_std=0.03,
    min_score_mass=0.5,
    max_unedited_growth=2.0,
    max_kl_to_base=0.1,
    max_second_gap=0.1,
    max_missing_fraction=0.1,
)
CALM = {
    "reward/group_std": 0.2,
    "reward/score_mass": 0.99,
    "edit/unedited_distance": 0.01,
    "policy/kl_to_base": 0.01,
    "reward/second_gap": 0.05,
    "reward/missing_fraction": 0.0,
}
WRONG = {
    "group_std": ("reward/group_std", 0.01),
    "score_mass": ("reward/score_mass", 0.1),
    "unedited_distance": ("edit/unedited_distance", 0.03),
    "kl_to_base": ("policy/kl_to_base", 0.2),
    "second_gap": ("reward/second_gap", 0.2),
    "missing": ("reward/missing_fraction", 0.2),
}


def picture(pixels):
    return Image.fromarray(np.asarray(pixels, np.uint8))


@given(share=st.floats(0, 1), seed=st.integers(0, 100))
def test_what_less_than_half_of_the_pixels_do_does_not_count(share, seed):
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 100, (16, 16, 3))
    edited = source.copy()
    changed = round(share * 256)
    edited.reshape(-1, 3)[rng.permutation(256)[:changed]] += 51
    distance = unedited_distance(picture(source), picture(edited))
    # Of the 129 pixels that changed least, those that changed at all did so by 51/255.
    assert distance == pytest.approx(0.2 * max(0, changed - 127) / 129, abs=1e-6)


def test_every_alarm_has_a_case_here():
    assert set(WRONG) == set(ALARMS)


@pytest.mark.parametrize("name", WRONG)
def test_an_alarm_is_on_while_its_value_is_wrong_and_only_it(name):
    metric, value = WRONG[name]
    calm, wrong = [CALM] * 6, [{**CALM, metric: value}] * 3
    assert find_alarms(calm, LIMITS) == set()
    assert find_alarms(calm + wrong, LIMITS) == {name}
    assert find_alarms(calm + wrong + calm, LIMITS) == set()


@pytest.mark.parametrize("name", WRONG)
def test_one_bad_epoch_of_a_window_can_be_chance_and_few_epochs_say_nothing(name):
    metric, value = WRONG[name]
    wrong = {**CALM, metric: value}
    assert find_alarms([*[CALM] * 6, wrong], LIMITS) == set()
    assert find_alarms([wrong] * 2, LIMITS) == set()


def test_what_is_not_measured_raises_no_alarm():
    assert find_alarms([{"reward/group_std": None}] * 9, LIMITS) == set()
    off = AlarmLimits(3, None, None, None, None, None, None)
    assert find_alarms([dict.fromkeys(CALM, 100.0)] * 9, off) == set()


def test_agreement_counts_pairs_of_a_group():
    rewards = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.5, math.nan]])
    assert agreement(rewards, rewards) == pytest.approx(3.5 / 4)  # the tie of the second group counts half
    assert agreement(rewards, -rewards) == pytest.approx(0.5 / 4)
    assert agreement(rewards[:1], torch.tensor([[0.1, 0.3, 0.2]])) == pytest.approx(2 / 3)
    assert math.isnan(agreement(rewards, torch.full_like(rewards, math.nan)))
