"""`edit-r1 doctor` on a run that works, on one that does not fit, and on wrong input."""

import json
import re
import socket
import time

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from benchmarks.support.real_sizes import write_kontext
from edit_r1.command import app
from tests.support.color_judge import ColorJudge, redness, serving
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
        "ok  edit sizes: 32x32; up to 53% of an image is cut off (model.aspect)",
        "color-judge (numpy), method score_logit",
        f"ok  scored a group of 4 (4 scores): the unedited source of 'make it red' scores {redness(source):.3f}",
        "scores/s from 1 replica(s): scoring an epoch's ",
        "ok  one group: rollout",
    ):
        assert line in output
    # Whether this service keeps up with this trainer depends on the machine.
    assert output.splitlines()[-1] == ("ready to run, 1 warning" if "warn" in output else "all checks passed")
    assert not (tiny.folder / "run").exists()


def test_a_judge_that_writes_something_else_than_scores_is_told(tiny, service_url):
    status, output = doctor(tiny, service_url)
    assert status == 1
    assert "score_logit: the judge puts a probability of only 0.0" in output
    assert "(limit: monitor.min_score_mass)" in output


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


def test_a_judge_on_the_same_gpu_takes_its_share(tiny, url, kontext):
    at_real_size = (f"model.path={kontext}", "--gpus", "1", "--gpu-memory", "80")
    assert doctor(tiny, url, *at_real_size)[0] == 0
    status, output = doctor(tiny, url, *at_real_size, "--judge-memory", "40")
    assert status == 1
    assert "40.0 GB  judge on the same GPU" in output


def test_a_judge_is_checked_against_the_memory_it_gets(tiny, url, tiny_judge, tmp_path):
    sizes = ("--gpus", "1", "--gpu-memory", "80", "--judge")
    status, output = doctor(tiny, url, *sizes, str(tiny_judge))
    assert status == 0, output
    assert f"judge {tiny_judge} needs 4.0 GB on a GPU" in output
    status, output = doctor(tiny, url, *sizes, str(tiny_judge), "--judge-memory", "2")
    assert status == 1
    assert "it gets 2 (--gpu-memory-utilization 0.03): give it more (--judge-memory)" in output
    status, output = doctor(tiny, url, *sizes, str(tmp_path))
    assert status == 1
    assert f"--judge: {tmp_path} has no configuration of a vision-language model" in output


def test_an_assumed_rate_says_so_and_gives_a_span(tiny, url, kontext):
    at_real_size = (f"model.path={kontext}", "model.width=1024", "model.height=1024")
    _, assumed = doctor(tiny, url, *at_real_size, "--gpus", "1")
    assert "if a GPU sustains 200-500 TFLOP/s (assumed; --tflops sets a measured rate)" in assumed
    ((fast, slow),) = re.findall(r"update (\d+)-(\d+) s", assumed)
    assert int(slow) / int(fast) == pytest.approx(2.5, rel=0.05)
    _, given = doctor(tiny, url, *at_real_size, "--gpus", "1", "--tflops", "200")
    assert "estimated epoch at 200 TFLOP/s per GPU (given): rollout " in given
    assert f"update {slow} s" in given
    _, cpu = doctor(tiny, url)
    assert "TFLOP/s per CPU (measured)" in cpu


def test_main_memory_counts_every_process_of_a_node(tiny, url, kontext):
    def loading(*arguments):
        output = doctor(tiny, url, f"model.path={kontext}", "groups_per_epoch=24", *arguments)[1]
        (found,) = re.findall(r"main memory of a node with (\d+) process\w*: up to (\d+) GB", output)
        return found

    (one, alone), (eight, together) = loading("--gpus", "1"), loading("--gpus", "8")
    assert (one, eight) == ("1", "8")
    assert int(together) == pytest.approx(8 * int(alone), abs=8)
    # 11.9 B weights in float32 instead of bfloat16.
    assert int(loading("--gpus", "1", "tuning=full")[1]) - int(alone) == pytest.approx(24, abs=1)
    assert loading("--gpus", "12")[0] == "8"


def test_main_memory_of_a_sharded_run_grows_with_the_shards_not_with_the_processes(tiny, url, kontext):
    def stages(gpus):
        settings = ("tuning=full", "model.sharding=fsdp", f"model.path={kontext}", "groups_per_epoch=24")
        output = doctor(tiny, url, *settings, "--gpus", gpus)[1]
        (found,) = re.findall(r"up to (\d+) GB while loading, (\d+) GB later", output)
        return [int(one) for one in found]

    # 4 GB per process; one set of float32 weights and one of text encoders on the node, a third of it on each of three.
    assert stages("8")[0] == pytest.approx(8 * 4 + 48 + 10 + 3, abs=2)
    assert stages("8")[0] - stages("24")[0] == pytest.approx(48 * 2 / 3, abs=2)
    assert stages("8")[1] == stages("24")[1] == 8 * 5


def test_checkpoints_that_do_not_fit_on_the_disk_are_told(tiny, url, kontext):
    settings = ("tuning=full", f"model.path={kontext}", "--gpus", "1", "--gpu-memory", "1000")
    _, output = doctor(tiny, url, *settings, "checkpoint.keep=3")
    # 20 bytes for each of 11.9 B weights, three times and one more.
    assert "checkpoints of 238 GB, checkpoint.keep = 3 and one being written: 952 GB" in output
    status, output = doctor(tiny, url, *settings, "checkpoint.keep=100000")
    assert status == 1
    assert re.search(r"FAIL  checkpoints of .* has room for", output)
    assert re.search(r"ok  checkpoints of .* has room for", doctor(tiny, url)[1])


def test_a_driver_too_old_for_this_torch_is_told(tiny, url, tmp_path, monkeypatch):
    command = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("torch.version.cuda", "13.0")
    for version, failures in (("580.65.06", 0), ("550.54.15", 1)):
        command.write_text(f"#!/bin/sh\necho {version}\n")
        command.chmod(0o755)
        status, output = doctor(tiny, url)
        assert status == failures
        assert f"NVIDIA driver {version}; torch {torch.__version__} is for CUDA 13.0" in output
        assert output.count("which needs driver 580 or newer") == failures


@pytest.mark.parametrize("silent", [True, False])
def test_a_service_that_is_not_ready_is_told_at_once(tiny, silent):
    started = time.monotonic()
    with serving(ColorJudge(ready=False)) as loading, socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}" if silent else loading
        status, output = doctor(tiny, url, "reward.wait_seconds=600")
    assert status == 1
    reason = "no answer in time" if silent else "the model is still loading"
    assert f"FAIL  reward service: reward service at {url} not ready after 0 s: {reason}\n" in output
    assert time.monotonic() - started < 30


def test_every_fault_is_told_not_only_the_first(tiny):
    status, output = doctor(
        tiny, "http://127.0.0.1:1", "model.path=/nowhere", "reward.wait_seconds=600", "data.train=/no"
    )
    assert status == 1
    assert "FAIL  data: cannot read task list /no" in output
    assert "FAIL  model: model.path = '/nowhere' is not a FluxKontextPipeline" in output
    assert "FAIL  reward service: reward service at http://127.0.0.1:1 not ready" in output
    assert "3 checks failed" in output
