"""FSDP2 and full fine-tuning on one and two processes: three groups in batches of two, so the shares are uneven."""

import pytest
import torch
from diffusers import FluxTransformer2DModel

from tests.support.color_judge import ColorJudge, serving
from tests.support.tiny_run import metrics, train_on_two, weights

SHARDED = ("model.sharding=fsdp", "model.gradient_checkpointing=true")
LORA, FULL = "pytorch_lora_weights.safetensors", "diffusion_pytorch_model.safetensors"
SETTINGS = ("epochs=2", "model.aspect=buckets", "nft.kl_weight=0.01")
TUNINGS = {
    "lora": (LORA, ("optimizer.learning_rate=0.003", "rollout.true_cfg=2")),
    "full": (FULL, ("tuning=full", "optimizer.learning_rate=0.0003")),
}


@pytest.fixture(scope="module", params=TUNINGS)
def runs(request, tiny, tmp_path_factory):
    """(name of the weights file, run on one process, the same run sharded over two, overrides, URL)."""
    folder = tmp_path_factory.mktemp(request.param)
    file, overrides = TUNINGS[request.param]
    with serving(ColorJudge(failing=frozenset({2}))) as url:
        tiny.train(url, folder / "one", *SETTINGS, *overrides)
        status, output = train_on_two(tiny.arguments(url, folder / "two", *SETTINGS, *overrides, *SHARDED))
        assert status == 0, output
        yield file, folder / "one", folder / "two", (*SETTINGS, *overrides), url


def assert_close(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], atol=2e-5, rtol=0, msg=key)


def test_sharded_over_two_processes_it_trains_as_on_one(runs):
    file, one, two, *_ = runs
    for name in ("policy", "old", "ema"):
        assert_close(weights(one, 2, f"{name}/{file}"), weights(two, 2, f"{name}/{file}"))
    assert_close(weights(one, 2, "optimizer.safetensors"), weights(two, 2, "optimizer.safetensors"))
    for left, right in zip(metrics(one), metrics(two), strict=True):
        assert left == pytest.approx(right, abs=1e-4)


def test_the_copies_moved_and_differ(runs):
    file, one, *_ = runs
    policy, old, ema = (weights(one, 2, f"{name}/{file}") for name in ("policy", "old", "ema"))
    assert any(not torch.equal(policy[key], old[key]) for key in policy)
    assert any(not torch.equal(policy[key], ema[key]) for key in policy)


def test_a_sharded_run_goes_on_on_one_process_and_says_so(runs, tiny, tmp_path, capsys):
    file, _, two, overrides, url = runs
    start = f"resume={two / 'checkpoints/step-1'}"
    tiny.train(url, tmp_path / "run", *overrides, start)
    told = capsys.readouterr().err
    assert "resuming with 1 processes (was 2)" in told
    assert "resuming with model.sharding = 'none' (was 'fsdp')" in told
    assert_close(weights(tmp_path / "run", 2, f"policy/{file}"), weights(two, 2, f"policy/{file}"))


def test_what_is_left_at_the_end_loads_in_plain_diffusers(runs):
    file, one, two, *_ = runs
    for run in (one, two):
        if file == LORA:
            assert (run / "lora" / LORA).exists()
            continue
        plain = FluxTransformer2DModel.from_pretrained(run / "transformer").state_dict()
        assert_close(plain, weights(run, 2, f"ema/{file}"))


def test_a_process_without_a_share_of_a_replaced_group_keeps_the_others_company(tiny, tmp_path):
    judge = ColorJudge()
    judge.failing_groups = {0: frozenset({0})}
    settings = ("epochs=1", "data.held_out=null", "rollout.batch_groups=1", "rollout.group_parts=1", *SHARDED)
    with serving(judge) as url:
        arguments = tiny.arguments(url, tmp_path / "run", *settings, "groups_per_epoch=2", "filter.quorum=4")
        status, output = train_on_two(arguments)
    assert status == 0, output
    assert "replacing 1 groups" in output


@pytest.mark.parametrize("tuning", TUNINGS)
def test_in_bfloat16_what_is_trained_stays_float32(tiny, url, tmp_path, tuning):
    file, overrides = TUNINGS[tuning]
    settings = ("epochs=1", "data.held_out=null", "model.precision=bfloat16", *overrides)
    tiny.train(url, tmp_path / "one", *settings)
    status, output = train_on_two(tiny.arguments(url, tmp_path / "two", *settings, "model.sharding=fsdp"))
    assert status == 0, output
    one, two = (weights(tmp_path / name, 1, f"policy/{file}") for name in ("one", "two"))
    for key, value in one.items():
        assert value.dtype == two[key].dtype == torch.float32
        # Adam's first step has the size of the learning rate, whatever sign rounding gave it.
        torch.testing.assert_close(value, two[key], atol=2.1 * 2 * 0.003, rtol=0, msg=key)
    assert metrics(tmp_path / "one")[0]["reward/mean"] == pytest.approx(
        metrics(tmp_path / "two")[0]["reward/mean"], abs=0.02
    )
