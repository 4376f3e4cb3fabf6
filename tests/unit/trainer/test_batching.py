import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edit_r1.trainer.update.batching import NOT_TRAINED, assign_steps


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(2, 6), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_kept_scored_samples_are_dealt_out_evenly_and_nothing_else(num_groups, group_size, num_steps, seed):
    source = torch.Generator().manual_seed(seed)
    rho = torch.rand(num_groups, group_size, generator=source, dtype=torch.float64)
    rho[torch.rand(num_groups, group_size, generator=source) < 0.2] = torch.nan
    kept = torch.rand(num_groups, generator=source) < 0.7
    steps = assign_steps(rho, kept, num_steps, torch.Generator().manual_seed(seed))

    assert torch.equal(steps != NOT_TRAINED, kept[:, None] & ~rho.isnan())
    counts = [int((steps == step).sum()) for step in range(num_steps)]
    assert sum(counts) == int((steps != NOT_TRAINED).sum())
    assert max(counts) - min(counts) <= 1
