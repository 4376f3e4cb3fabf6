import torch
from hypothesis import given
from hypothesis import strategies as st

from edit_r1.trainer.mathematics.guidance import guided


@given(st.integers(0, 2**32 - 1), st.floats(1.0, 20.0))
def test_the_velocity_is_moved_away_from_the_negative_prompts(seed, scale):
    source = torch.Generator().manual_seed(seed)
    positive, negative = torch.randn(2, 3, 5, 4, generator=source, dtype=torch.float64)
    plain, rescaled = (guided(positive, negative, scale, keeps_norm=keeps) for keeps in (False, True))
    torch.testing.assert_close(plain - positive, (scale - 1) * (positive - negative))
    # Rescaled, every token has the positive branch's norm and the plain combination's direction.
    torch.testing.assert_close(rescaled.norm(dim=-1), positive.norm(dim=-1))
    torch.testing.assert_close(torch.cosine_similarity(rescaled, plain, dim=-1), torch.ones(3, 5, dtype=torch.float64))


def test_without_a_difference_or_at_scale_one_nothing_changes():
    positive, negative = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    for keeps_norm in (False, True):
        torch.testing.assert_close(guided(positive, negative, 1.0, keeps_norm=keeps_norm), positive)
        torch.testing.assert_close(guided(positive, positive, 4.0, keeps_norm=keeps_norm), positive)
    zero = torch.zeros(1, 2, 3)
    assert torch.equal(guided(zero, zero, 4.0, keeps_norm=True), zero)
