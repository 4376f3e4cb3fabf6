import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edit_r1.trainer.mathematics.flow import interpolate, predict_x0, velocity_of_path


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.floats(0.01, 1.0), min_size=1, max_size=4))
def test_the_three_formulas_agree_on_every_path(seed, times):
    source = torch.Generator().manual_seed(seed)
    x0, noise = torch.randn(2, len(times), 3, 2, generator=source, dtype=torch.float64)
    t = torch.tensor(times, dtype=torch.float64)
    x_t = interpolate(x0, noise, t)
    torch.testing.assert_close(velocity_of_path(x_t, x0, t), noise - x0)
    torch.testing.assert_close(predict_x0(x_t, noise - x0, t), x0)


def test_the_ends_of_a_path_are_data_and_noise():
    x0, noise = torch.randn(2, 1, 4)
    assert torch.equal(interpolate(x0, noise, torch.tensor([0.0])), x0)
    assert torch.equal(interpolate(x0, noise, torch.tensor([1.0])), noise)
