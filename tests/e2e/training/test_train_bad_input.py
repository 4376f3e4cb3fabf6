"""Every kind of wrong input is reported in one clear error, before a model is loaded.

In all of these tests the model's path does not exist: if a model were loaded first, the error would be a different one.
"""

import subprocess
import sys

import pytest

from edit_r1.shared.errors import ConfigError, DataError, RewardServiceUnavailable
from tests.support.color_judge import ColorJudge, serving
from tests.support.tiny_run import ROOT

NO_MODEL = "model.path=/nowhere"


def test_an_unknown_key(tiny, url, tmp_path):
    with pytest.raises(ConfigError, match=r"rollout\.step: unknown key; did you mean 'steps'"):
        tiny.train(url, tmp_path / "run", NO_MODEL, "rollout.step=4")


def test_a_missing_image(tiny, url, tmp_path):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text('\n{"prompt": "x", "image": "gone.png"}\n')
    with pytest.raises(DataError, match=r"line 2: image file .*gone\.png does not exist"):
        tiny.train(url, tmp_path / "run", NO_MODEL, f"data.train={tasks}")
    with pytest.raises(DataError, match=r"line 2: image file .*gone\.png does not exist"):
        tiny.train(url, tmp_path / "run", NO_MODEL, f"data.held_out={tasks}")


def test_a_service_nobody_listens_at(tiny, tmp_path, capsys):
    with pytest.raises(RewardServiceUnavailable, match=r"127\.0\.0\.1:9 not ready after 0\.2 s: cannot connect"):
        tiny.train("http://127.0.0.1:9", tmp_path / "run", NO_MODEL, "reward.wait_seconds=0.2")
    assert "waiting for the reward service at http://127.0.0.1:9: cannot connect" in capsys.readouterr().err


def test_a_service_that_is_not_ready(tiny, tmp_path, capsys):
    with serving(ColorJudge(ready=False)) as address, pytest.raises(RewardServiceUnavailable, match="still loading"):
        tiny.train(address, tmp_path / "run", NO_MODEL, "reward.wait_seconds=0.2")
    assert "the model is still loading" in capsys.readouterr().err


def test_a_method_the_service_does_not_know(tiny, url, tmp_path):
    with pytest.raises(ConfigError, match=r"reward\.method = 'coin_toss': the service at .* offers score_logit"):
        tiny.train(url, tmp_path / "run", NO_MODEL, "reward.method=coin_toss")


def test_more_candidates_than_the_service_takes(tiny, url, tmp_path):
    with pytest.raises(ConfigError, match=r"group_size = 65: .* accepts at most 64 candidates per group"):
        tiny.train(url, tmp_path / "run", NO_MODEL, "group_size=65")


def test_guidance_of_a_model_without_a_negative_branch(tiny, tmp_path):
    family = "model.family=examples.uniworld_style:UniWorldStyle"
    with pytest.raises(
        ConfigError, match=r"rollout\.true_cfg = 4 must be null with model\.family = .*UniWorldStyle: it"
    ):
        tiny.train("http://127.0.0.1:9", tmp_path / "run", NO_MODEL, family, "rollout.true_cfg=4")


@pytest.mark.parametrize("path", ["no_colon", "no.such.module:f", "math:no_such_function"])
def test_a_metric_that_leads_nowhere(tiny, url, tmp_path, path):
    with pytest.raises(ConfigError, match=r"evaluation\.metrics\.mine"):
        tiny.train(url, tmp_path / "run", NO_MODEL, f"evaluation.metrics={{mine: '{path}'}}")


def test_a_metric_that_fails_is_named_with_its_task(tiny, url, tmp_path):
    with pytest.raises(DataError, match=r"metric 'mine' failed on the task 'make it red' of .*png: TypeError"):
        tiny.train(url, tmp_path / "run", NO_MODEL, "evaluation.metrics={mine: 'math:sqrt'}")


def test_more_sources_than_the_family_takes(tiny, url, tmp_path):
    tasks = tiny.folder / "several.jsonl"
    tasks.write_text('{"prompt": "x", "image": ["images/train-0.png", "images/train-1.png"]}')
    with pytest.raises(DataError, match=r"'x' has 2 source images; model\.family = flux_kontext takes at most 1"):
        tiny.train(url, tmp_path / "run", NO_MODEL, f"data.train={tasks}")


def test_no_configuration_at_all(tmp_path):
    from edit_r1.trainer.cli import train

    with pytest.raises(ConfigError, match="does not exist"):
        train([str(tmp_path / "gone.yaml")])


def test_a_model_that_is_none(tiny, url, tmp_path):
    with pytest.raises(ConfigError, match=r"model\.path = '/nowhere' is not a FluxKontextPipeline"):
        tiny.train(url, tmp_path / "run", NO_MODEL)


def test_an_error_is_one_line_and_exit_status_1(tiny, tmp_path):
    arguments = tiny.arguments("http://127.0.0.1:9", tmp_path / "run", "reward.wait_seconds=0", "evaluation.metrics={}")
    command = [sys.executable, "-m", "edit_r1.trainer", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("edit-r1: ")]
    assert "not ready after 0 s" in line
