"""Options that save memory or time, tested on a small model: training stays the same, or nearly so."""

import pytest
import torch

from tests.support.color_judge import ColorJudge, serving
from tests.support.tiny_run import metrics, weights

SETTINGS = ("epochs=1", "data.held_out=null")
POLICY = "policy/pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def plain(tiny, tmp_path_factory):
    return train(tiny, tmp_path_factory.mktemp("plain") / "run")


def train(tiny, run_dir, *overrides):
    with serving(ColorJudge()) as url:
        tiny.train(url, run_dir, *SETTINGS, *overrides)
    return run_dir


@pytest.mark.parametrize("override", ["model.text_encoders=offload", "model.compile=aot_eager"])
def test_the_numbers_stay_what_they_were(tiny, plain, tmp_path, override):
    run_dir = train(tiny, tmp_path / "run", override)
    ours, theirs = weights(run_dir, 1, POLICY), weights(plain, 1, POLICY)
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, atol=1e-5, rtol=0)


def test_a_quantized_base_trains_its_adapter(tiny, plain, tmp_path):
    run_dir = train(tiny, tmp_path / "run", "model.quantization=int8")
    (ours,), (theirs,) = metrics(run_dir), metrics(plain)
    assert ours["reward/mean"] == pytest.approx(theirs["reward/mean"], abs=0.1)
    assert ours["reward/mean"] != theirs["reward/mean"]  # the base model is a different one
    policy = weights(run_dir, 1, POLICY)
    assert {value.dtype for value in policy.values()} == {torch.float32}
    assert any(value.abs().max() > 0 for key, value in policy.items() if "lora_B" in key)
