import json
import re

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from edit_r1.shared.config import load_config
from edit_r1.shared.errors import ConfigError, RewardServiceUnavailable
from edit_r1.trainer.config import TrainConfig
from tests.support.color_judge import ColorJudge, serving
from tests.support.tiny_run import metrics, weights
from tests.unit.repository.test_docs import undocumented

LEARNS = (
    "epochs=20",
    "groups_per_epoch=4",
    "group_size=8",
    "checkpoint.every=0",
    "optimizer.learning_rate=0.02",
    "lora.targets=[to_q, to_k, to_v, to_out.0, net.2, proj_mlp, proj_out]",
)
"""Overrides with which the reward rises clearly."""


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """A finished run of two epochs: its directory and summary."""
    run_dir = tmp_path_factory.mktemp("run")
    with serving(ColorJudge()) as url:
        return run_dir, tiny.train(url, run_dir)


def test_a_run_leaves_what_it_promises(finished):
    run_dir, summary = finished
    assert set(summary) == {"before", "after", "report", "seconds"}
    assert set(summary["before"]) == set(summary["after"]) == {"reward", "redness"}
    assert summary["report"] == str(run_dir / "report.html")
    assert summary["seconds"] > 0
    assert {path.name for path in (run_dir / "checkpoints").iterdir()} == {"step-1", "step-2"}
    assert load_config(TrainConfig, run_dir / "config.yaml").run_dir == run_dir
    assert (run_dir / "lora" / "pytorch_lora_weights.safetensors").exists()


def test_the_metric_is_what_the_judge_measured(finished):
    # The pluggable metric and the service compute the same number, one here, one behind HTTP.
    for point in ("before", "after"):
        values = finished[1][point]
        assert values["reward"] == pytest.approx(values["redness"], abs=1e-9)


def test_metrics_are_written_as_lines_and_to_tensorboard(finished):
    run_dir, _ = finished
    lines = metrics(run_dir)
    assert [line["epoch"] for line in lines] == [0, 1, 2, 2]
    names = {"reward/mean", "filter/kept_fraction", "nft/loss", "optimizer/grad_norm", "policy/old_decay"}
    assert names <= set(lines[1])
    assert lines[2]["optimizer/steps"] == 4
    assert undocumented({name for line in lines for name in line} - {"epoch"}) == set()
    assert all(re.fullmatch(r"[a-z]+/[a-z_]+", name) for line in lines for name in line if name != "epoch")
    board = EventAccumulator(str(run_dir / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("reward/mean")] == [1, 2]
    assert board.Scalars("reward/mean")[0].value == pytest.approx(lines[1]["reward/mean"])


def test_the_policy_its_old_copy_and_the_ema_all_moved_and_differ(finished):
    run_dir, _ = finished
    policy, old, ema = (
        weights(run_dir, 2, f"{name}/pytorch_lora_weights.safetensors") for name in ("policy", "old", "ema")
    )
    key = next(key for key in policy if "lora_B" in key)
    assert policy[key].abs().max() > 0
    assert not torch.equal(policy[key], old[key])
    assert not torch.equal(policy[key], ema[key])


def test_the_report_shows_groups_by_reward_and_pictures_before_and_after(finished):
    run_dir, _ = finished
    html = (run_dir / "report.html").read_text()
    assert "http" not in re.sub(r"<pre>.*</pre>", "", html, flags=re.S)  # self-contained
    assert html.count("<svg") >= 4
    assert html.count('alt="before"') == html.count('alt="after"') == 2
    cards = re.findall(r'<div class="card.*?</div>\n</div>\n</div>', html, flags=re.S)
    assert len(cards) == 4  # two groups of two epochs
    for card in cards:
        rewards = [float(value) for value in re.findall(r'alt="candidate">([\d.]+)<', card)]
        assert len(rewards) == 4
        assert rewards == sorted(rewards, reverse=True)
    assert "redness" in html


def test_a_missing_score_costs_its_candidate_only(tiny, tmp_path):
    with serving(ColorJudge(failing=frozenset({1}))) as url:
        tiny.train(url, tmp_path / "run", "epochs=1", "data.held_out=null")
    (line,) = metrics(tmp_path / "run")
    assert line["reward/missing_fraction"] == pytest.approx(1 / 4)
    assert line["filter/kept_fraction"] == 1.0
    html = (tmp_path / "run" / "report.html").read_text()
    assert 'alt="candidate">missing<' in html


def test_without_held_out_tasks_the_summary_says_null(tiny, tmp_path):
    with serving(ColorJudge()) as url:
        summary = tiny.train(url, tmp_path / "run", "epochs=1", "data.held_out=null")
    assert summary["before"] is summary["after"] is None


def test_when_too_many_scores_are_missing_the_run_ends_with_a_reason(tiny, tmp_path):
    with (
        serving(ColorJudge(failing=frozenset({0, 1, 3}))) as url,
        pytest.raises(RewardServiceUnavailable, match=r"75% of 12 candidates got no score, more than .* 0.5; first f"),
    ):
        tiny.train(url, tmp_path / "run", "data.held_out=null")


def test_a_group_below_its_quorum_is_replaced_by_another_task(tiny, tmp_path):
    judge = ColorJudge()
    judge.failing_groups = {0: frozenset({0, 1, 2})}
    with serving(judge) as url:
        tiny.train(url, tmp_path / "run", "epochs=1", "data.held_out=null", "reward.max_in_flight=1")
    (line,) = metrics(tmp_path / "run")
    assert line["filter/replaced_groups"] == 1
    assert line["filter/below_quorum_groups"] == 1
    assert line["filter/kept_fraction"] == 3 / 4
    assert judge.num_groups == 4


def test_dropped_groups_teach_nothing(tiny, tmp_path):
    with serving(ColorJudge()) as url:
        tiny.train(url, tmp_path / "run", "epochs=1", "data.held_out=null", "filter.rule=range", "filter.min_range=1.0")
    (line,) = metrics(tmp_path / "run")
    assert line["filter/kept_fraction"] == 0.0
    assert line["optimizer/steps"] == 0
    assert line["nft/loss"] is None
    policy = weights(tmp_path / "run", 1, "policy/pytorch_lora_weights.safetensors")
    assert all(torch.equal(value, torch.zeros_like(value)) for key, value in policy.items() if "lora_B" in key)


@pytest.mark.parametrize(
    ("settings", "num_banned"),
    [
        (("filter.rule=ban",), 3),  # the former name of the next
        (("filter.rule=paper", "filter.ban=true"), 3),
        (("filter.rule=strict", "filter.ban=true"), 3),  # the published filter
        (("filter.rule=none", "filter.ban=true"), 3),
        (("filter.rule=strict",), 0),
    ],
)
def test_banned_tasks_are_remembered(tiny, tmp_path, settings, num_banned):
    every_group = ("filter.tau_mean=-1", "filter.tau_spread=2")
    with serving(ColorJudge()) as url:
        tiny.train(url, tmp_path / "run", "epochs=1", "data.held_out=null", *every_group, *settings)
    state = json.loads((tmp_path / "run/checkpoints/step-1/state.json").read_text())
    assert len(state["sampler"]["banned"]) == num_banned


def test_the_reward_goes_up(tiny, tmp_path):
    with serving(ColorJudge()) as url:
        summary = tiny.train(
            url,
            tmp_path / "run",
            *LEARNS,
            "nft.kl_weight=0",
            "nft.beta=0.5",
            "adv_clip=1",
        )
    assert summary["after"]["reward"] > summary["before"]["reward"] + 0.1


def test_flow_grpo_raises_the_reward_too(tiny, tmp_path):
    with serving(ColorJudge()) as url:
        summary = tiny.train(
            url,
            tmp_path / "run",
            "algorithm=flow_grpo",
            *LEARNS,
        )
    assert summary["after"]["reward"] > summary["before"]["reward"] + 0.1
    lines = [line for line in metrics(tmp_path / "run") if "grpo/loss" in line]
    assert len(lines) == 20
    # Two optimizer steps per epoch: the ratio has moved at the second one.
    assert all(line["grpo/kl"] == 0 for line in lines)
    assert any(line["grpo/ratio"] != 1 for line in lines)
    assert "nft/loss" not in lines[0]


def test_flow_grpo_does_not_train_on_its_last_step(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"trained_timesteps = 3 must be below rollout\.steps = 3"):
        tiny.train("http://127.0.0.1:1", tmp_path / "run", "algorithm=flow_grpo", "trained_timesteps=3")


def test_gradient_checkpointing_changes_no_number(tiny, tmp_path):
    with serving(ColorJudge()) as url:
        for name in ("false", "true"):
            tiny.train(url, tmp_path / name, "epochs=1", "data.held_out=null", f"model.gradient_checkpointing={name}")
    left, right = (weights(tmp_path / name, 1, "policy/pytorch_lora_weights.safetensors") for name in ("false", "true"))
    assert all(torch.allclose(left[key], right[key], atol=1e-5) for key in left)


def test_a_bfloat16_editor_trains_with_float32_adapters(tiny, tmp_path):
    with serving(ColorJudge()) as url:
        tiny.train(url, tmp_path / "run", "epochs=1", "data.held_out=null", "model.precision=bfloat16")
    policy = weights(tmp_path / "run", 1, "policy/pytorch_lora_weights.safetensors")
    assert {value.dtype for value in policy.values()} == {torch.float32}
    assert any(value.abs().max() > 0 for key, value in policy.items() if "lora_B" in key)


def test_velocity_weighting_and_every_advantage_mode_run(tiny, tmp_path):
    variants = (
        ("nft.weighting=velocity", "advantage.std=group"),
        ("advantage.mode=binary", "filter.rule=strict", "filter.in_global_std=false"),
        ("old_decay_type=0", "optimizer_steps_per_epoch=1"),
    )
    with serving(ColorJudge()) as url:
        for index, overrides in enumerate(variants):
            tiny.train(url, tmp_path / str(index), "epochs=1", "data.held_out=null", *overrides)
            assert metrics(tmp_path / str(index))[0]["reward/missing_fraction"] == 0
