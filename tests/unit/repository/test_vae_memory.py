"""The numbers that the doctor takes for a VAE's memory are what the benchmark counts on the VAE of real size."""

import pytest
import torch
from torch import nn

from benchmarks.vae_memory import CASES, PeakOfLiveTensors, measure
from edit_r1.trainer.models import FAMILIES, family_class


def test_every_family_has_its_vae_here():
    assert sorted(name for case in CASES.values() for name in case.families) == sorted(FAMILIES)


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.families], ids=lambda case: case.families[0])
def test_the_families_numbers_are_the_measured_ones(case):
    found = measure(case, side=256)
    for name in case.families:
        family = family_class(name)
        assert family.decoder_numbers == pytest.approx(found.decoding, rel=0.02)
        assert family.encoder_numbers == pytest.approx(found.encoding, rel=0.02)


def test_a_tensor_counts_from_its_making_to_its_end():
    layer = nn.Linear(10, 10, bias=False)
    x = torch.zeros(5, 10)
    with torch.no_grad(), PeakOfLiveTensors(layer) as live:
        for _ in range(3):
            x = layer(x)  # 200 bytes beside the 200 before it; the weight and its transpose are no one's
    assert live.peak == 400
