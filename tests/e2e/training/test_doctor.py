"""`edit-r1 doctor` on a run that works, on one that does not fit, and on wrong input."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks.support.real_sizes import write_kontext
from edit_r1.command import app
from tests.support.color_judge import redness
from tests.support.tiny_families import build_tiny_qwen_plus


@pytest.fixture(scope="module")
def kontext(tmp_path_factory):
    """FLUX.1-Kontext at its real size: configurations only."""
    return write_kontext(tmp_path_factory.mktemp("kontext"))


def doctor(tiny, url, *arguments):
    """(exit status, output)."""
    command = ["doctor", str(tiny.config), f"reward.url={url}", f"run_dir={tiny.folder / 'run'}", *arguments]
    ended = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    if ended.exception and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended.exit_code, ended.output


def test_a_run_that_will_go(tiny, url):
    source = np.full((32, 32, 3), (0, 20, 20), np.uint8)  # no red at all: any noise would show
    Image.fromarray(source).save(tiny.folder / "images/train-0.png")
    status, output = doctor(tiny, url, "--rehearse")
    assert status == 0, output
    for line in (
        "ok  training on 5 tasks (adjust 3, add 2)",
        "ok  every instruction fits the text encoder",
        "ok  edit sizes: 32x32",
        "color-judge (numpy), method score_logit",
        f"ok  scored a group of 4 (4 scores): the unedited source of 'make it red' scores {redness(source):.3f}",
        "scores/s from 1 replica(s): scoring an epoch's ",
        "ok  one group: rollout",
    ):
        assert line in output
    # Whether this service keeps up with this trainer depends on the machine.
    assert output.splitlines()[-1] == ("ready to run, 1 warning" if "warn" in output else "all checks passed")
    assert not (tiny.folder / "run").exists()


def test_a_service_too_slow_for_its_trainer_is_told(tiny, url):
    status, output = doctor(tiny, url, "--gpus", "1", "--tflops", "100000")
    assert status == 0, output
    (line,) = (line for line in output.splitlines() if "the trainer would wait" in line)
    assert line.lstrip().startswith("warn")
    assert line.endswith("replicas, or max_staleness=1")
    assert output.endswith("ready to run, 1 warning\n")


def test_the_rewards_are_held_against_an_epoch_of_as_many_sources_as_the_tasks_have(tiny, url, tmp_path):
    tasks = tiny.folder / "pairs.jsonl"
    tasks.write_text(json.dumps({"prompt": "make it red", "images": ["images/train-0.png", "images/train-1.png"]}))
    settings = (
        "model.family=qwen_image_edit_plus",
        f"model.path={build_tiny_qwen_plus(tmp_path / 'editor')}",
        f"data.train={tasks}",
        "data.held_out=null",
    )
    status, output = doctor(tiny, url, *settings, "--tflops", "0.000001")
    assert status == 0, output
    memory, rewards = (float(seconds.replace(",", "")) for seconds in re.findall(r"rollout ([\d,.]+) s", output))
    assert memory == pytest.approx(rewards, abs=0.6)


def test_a_tracker_that_is_not_installed_is_told(tiny, url, monkeypatch):
    monkeypatch.setattr("edit_r1.trainer.run.preflight.find_spec", lambda _: None)
    status, output = doctor(tiny, url, "trackers=[wandb]")
    assert status == 1
    assert "FAIL  packages: trackers: wandb is not installed" in output


def test_a_real_model_that_does_not_fit_comes_with_what_to_change(tiny, url, kontext):
    sizes = (
        "groups_per_epoch=24",
        "model.width=512",
        "model.height=512",
        "micro_batch_size=24",
        f"model.path={kontext}",
    )
    status, output = doctor(tiny, url, *sizes, "--gpus", "8", "--gpu-memory", "40")
    assert status == 1
    assert "transformer 11.9 B, text encoders 4.89 B, VAE 83.8 M parameters" in output
    assert "23.8 GB  transformer" in output
    assert "of 36.8 GB usable" in output
    assert output.index("text_encoders=offload brings") < output.index("gradient_checkpointing=true brings")
    advice = [line.split()[0] for line in output.splitlines() if " brings it to " in line]
    # Its advice makes the run fit.
    status, output = doctor(tiny, url, *sizes, *advice, "--gpus", "8", "--gpu-memory", "40")
    assert status == 0, output


def test_every_fault_is_told_not_only_the_first(tiny):
    status, output = doctor(
        tiny, "http://127.0.0.1:1", "model.path=/nowhere", "reward.wait_seconds=0", "data.train=/no"
    )
    assert status == 1
    assert "FAIL  data: cannot read task list /no" in output
    assert "FAIL  model: model.path = '/nowhere' is not a FluxKontextPipeline" in output
    assert "FAIL  reward service: reward service at http://127.0.0.1:1 not ready" in output
    assert "3 checks failed" in output
