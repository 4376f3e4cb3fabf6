"""A run on two processes equals the run on one (test_launch_files covers launching with accelerate and torchrun)."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from edit_r1.trainer.records.records import read_rollouts
from tests.support.color_judge import ColorJudge, serving
from tests.support.forked import Forked
from tests.support.tiny_run import ROOT, metrics, train_on, train_on_two, weights

EPOCHS = 2
LAUNCH = ("--num_machines=1", "--num_processes=2", "--mixed_precision=no", "--dynamo_backend=no")


@pytest.fixture(scope="module")
def runs(tiny, tmp_path_factory):
    """The same run on one process and on two: three groups in batches of two, so the shares are uneven (2 and 1).

    The images have two shapes, so that a batch may contain both.
    """
    folder = tmp_path_factory.mktemp("runs")
    judge = ColorJudge(failing=frozenset({2}))
    with serving(judge) as url:
        overrides = (f"epochs={EPOCHS}", "model.aspect=buckets")
        tiny.train(url, folder / "one", *overrides)
        status, output = train_on_two(tiny.arguments(url, folder / "two", *overrides))
    assert status == 0, output
    return folder / "one", folder / "two", output


def test_two_processes_train_as_one_to_1e_5(runs):
    one, two, _ = runs
    for name in ("policy", "old", "ema"):
        file = f"{name}/pytorch_lora_weights.safetensors"
        left, right = weights(one, EPOCHS, file), weights(two, EPOCHS, file)
        assert left.keys() == right.keys()
        for key in left:
            torch.testing.assert_close(left[key], right[key], atol=1e-5, rtol=0, msg=f"{name} {key}")


def test_two_processes_measure_as_one(runs):
    one, two, _ = runs
    for left, right in zip(metrics(one), metrics(two), strict=True):
        assert left == pytest.approx(right, abs=1e-4)


def test_two_processes_keep_the_pictures_of_one(runs):
    one, two, _ = runs
    names = [path.relative_to(one) for path in sorted(one.glob("*/epoch-*/*.webp"))]
    assert names == [path.relative_to(two) for path in sorted(two.glob("*/epoch-*/*.webp"))]
    # Two groups of a source and four candidates in two epochs; two pairs in each of two evaluations.
    assert len(names) == 2 * 2 * 5 + 2 * 2 * 2
    for name in names:
        left, right = (np.asarray(Image.open(run / name), int) for run in (one, two))
        assert np.abs(left - right).max() <= 1


@pytest.mark.parametrize("num_groups", [1, 2])
def test_a_group_trained_on_by_several_processes_is_trained_on_as_by_one(tiny, url, tmp_path, num_groups):
    # On three processes, one group of four candidates has parts of 1, 1 and 2.
    overrides = ("epochs=1", "data.held_out=null", f"groups_per_epoch={num_groups}", "filter.rule=none")
    tiny.train(url, tmp_path / "1", *overrides)
    (alone,) = metrics(tmp_path / "1")
    for num_processes in (2, 3):
        run_dir = tmp_path / str(num_processes)
        status, output = train_on(num_processes, tiny.arguments(url, run_dir, *overrides))
        assert status == 0, output
        assert f"each group is divided into {num_processes} parts" in output
        (ours,) = metrics(run_dir)
        assert ours == pytest.approx(alone, abs=1e-4)
        for whole, joined in zip(shown(tmp_path / "1"), shown(run_dir), strict=True):
            assert joined.candidates == whole.candidates
            assert joined.rewards == pytest.approx(whole.rewards, abs=1e-5)
        for name in ("policy", "old", "ema"):
            file = f"{name}/pytorch_lora_weights.safetensors"
            left, right = weights(run_dir, 1, file), weights(tmp_path / "1", 1, file)
            for key in left:
                torch.testing.assert_close(left[key], right[key], atol=1e-5, rtol=0, msg=f"{name} {key}")


def shown(run_dir):
    """The groups that the report shows; all their images are on disk."""
    ((folder, rollouts),) = read_rollouts(run_dir)
    assert all((folder / name).is_file() for group in rollouts.groups for name in (group.source, *group.candidates))
    return rollouts.groups


def test_there_were_two_processes(runs):
    assert "2 processes on cpu" in runs[2]


def test_only_the_main_process_receives_what_is_gathered_for_it():
    # Shares of 3 and 1 items, of 0 and 1, and of none.
    code = """
from edit_r1.trainer.machine.processes import Processes
processes = Processes(60)
for number, shares in enumerate(((3, 1), (0, 1), (0, 0))):
    mine = [f"{processes.rank}{index}" for index in range(shares[processes.rank])]
    line = f"{processes.rank} {number} {processes.gather_on_main(mine)}\\n"
    print(line, end="", flush=True)  # in one piece: both processes write to the same file
processes.close()
"""
    status, output = Forked("python", "-c", code, num_processes=2, CUDA_VISIBLE_DEVICES="").finish(60)
    assert status == 0, output
    told = {line for line in output.splitlines() if re.match(r"[01] [012] ", line)}
    assert told == {"0 0 ['00', '01', '02', '10']", "0 1 ['10']", "0 2 []", "1 0 []", "1 1 []", "1 2 []"}


def test_when_accelerate_starts_one_process_for_two_we_say_so(tiny, tmp_path):
    # `accelerate launch --cpu --num_processes 2` silently runs a single process.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", *LAUNCH, "-m", "edit_r1.trainer"]
    with serving(ColorJudge()) as url:
        ended = subprocess.run(
            [*command, *tiny.arguments(url, tmp_path / "run", "epochs=1", "data.held_out=null")],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=280,
            check=False,
        )
    assert ended.returncode == 0, ended.stdout
    assert "1 process on cpu; WARNING: accelerate launch started one process, not several" in ended.stdout


def test_only_one_of_two_processes_talks(runs):
    assert len(re.findall(r"epoch 1/2", runs[2])) == 1


def test_packages_that_are_installed_and_not_used_do_not_talk(runs):
    assert not re.findall(r"torchao|_pytree", runs[2])


def test_more_processes_than_parts_of_groups_are_refused_with_the_legal_values(tiny, tmp_path):
    with serving(ColorJudge()) as url:
        arguments = tiny.arguments(url, tmp_path / "run", "groups_per_epoch=1", "rollout.group_parts=1")
        status, output = train_on_two(arguments)
    assert status != 0
    assert "2 processes for groups_per_epoch = 1 of group_size = 4, in batches" in output
