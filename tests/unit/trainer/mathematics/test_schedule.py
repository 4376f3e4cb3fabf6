import pytest

from edit_r1.trainer.mathematics.schedule import ema_decay, num_trained_timesteps, old_decay


@pytest.mark.parametrize(
    ("decay_type", "step", "expected"),
    [
        (0, 0, 0.0),
        (0, 10_000, 0.0),
        (1, 0, 0.0),
        (1, 100, 0.1),
        (1, 500, 0.5),
        (1, 10_000, 0.5),
        (2, 75, 0.0),
        (2, 76, 0.0075),
        (2, 175, 0.75),
        (2, 10_000, 0.999),
    ],
)
def test_decay_of_the_old_policy(decay_type, step, expected):
    assert old_decay(decay_type, step) == pytest.approx(expected)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.1), (1, 2 / 11), (1000, 0.9)])
def test_decay_of_the_ema(step, expected):
    assert ema_decay(step) == pytest.approx(expected)


@pytest.mark.parametrize(("steps", "wanted", "expected"), [(6, None, 5), (1, None, 1), (100, None, 99), (6, 2, 2)])
def test_trained_timesteps(steps, wanted, expected):
    assert num_trained_timesteps(steps, wanted) == expected
