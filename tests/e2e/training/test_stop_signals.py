"""A signal ends a run in order, wherever it is: a checkpoint, a status that supervisors restart, and the same run."""

import json
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from tests.support.color_judge import ColorJudge, serving
from tests.support.forked import Forked
from tests.support.tiny_run import metrics

GROUPS = 12
# No checkpoint is due before the second epoch's end, and every micro-batch is one row: 96 of them an epoch.
SETTINGS = (f"groups_per_epoch={GROUPS}", "checkpoint.every=2", "optimizer_steps_per_epoch=1", "micro_batch_size=1")
RUNS = ("run", "undisturbed")
AN_EPOCH_AND_A_BIT, TWO_EPOCHS = GROUPS + 3, 2 * GROUPS


@pytest.fixture(scope="module")
def undisturbed(tiny, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    with serving(ColorJudge()) as url:
        tiny.train(url, run_dir, *SETTINGS, "data.held_out=null")
    return run_dir


def steps(run_dir):
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


def assert_same_run(ours, theirs):
    files = sorted(path.relative_to(theirs) for path in (theirs / "checkpoints/step-2").rglob("*.safetensors"))
    assert len(files) == 5
    for file in files:
        left, right = load_file(ours / file), load_file(theirs / file)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left), file
    assert metrics(ours) == metrics(theirs)


@pytest.mark.parametrize(
    ("where", "number"),
    [("rollout", signal.SIGTERM), ("wait for scores", signal.SIGUSR1), ("update", signal.SIGINT)],
)
def test_a_signal_ends_the_run_with_a_checkpoint_and_it_goes_on_bit_for_bit(tiny, undisturbed, tmp_path, where, number):
    run_dir, judge = tmp_path / "run", ColorJudge()
    with serving(judge) as url:
        judge.groups_until_away = AN_EPOCH_AND_A_BIT if where == "wait for scores" else None
        process = Forked("train", *tiny.arguments(url, run_dir, *SETTINGS, "data.held_out=null"))
        process.wait_for(lambda: judge.num_groups >= (TWO_EPOCHS if where == "update" else AN_EPOCH_AND_A_BIT))
        if where != "rollout":
            time.sleep(0.3)
        process.send_signal(number)
        assert process.ended() == [128 + number], process.output
        assert f"stopped by {number.name} after epoch 1; the same command resumes from there" in process.output
        assert "Traceback" not in process.output
        assert steps(run_dir) == ["step-1"]
        assert (judge.num_groups < TWO_EPOCHS) == (where != "update")
        judge.groups_until_away = None
        tiny.train(url, run_dir, *SETTINGS, "data.held_out=null")
    assert_same_run(run_dir, undisturbed)


def test_an_evaluation_is_done_again(tiny, tmp_path):
    settings, judge = (*SETTINGS, "micro_batch_size=8", "evaluation.every=1"), ColorJudge()
    with serving(judge) as url:
        tiny.train(url, tmp_path / "undisturbed", *settings)
        for num_groups, step in ((2, 0), (4 + GROUPS + 2, 1), (4 + GROUPS + 4 + GROUPS + 2, 2)):
            run_dir = tmp_path / f"stopped-after-{step}"
            judge.num_groups, judge.groups_until_away = 0, num_groups
            process = Forked("train", *tiny.arguments(url, run_dir, *settings))
            process.wait_for(lambda: judge.num_groups == judge.groups_until_away)
            process.send_signal(signal.SIGTERM)
            assert process.ended() == [143], process.output
            assert f"step-{step}" in steps(run_dir)
            judge.groups_until_away = None
            tiny.train(url, run_dir, *settings)
            assert_same_run(run_dir, tmp_path / "undisturbed")


@pytest.mark.parametrize("sharding", ["none", "fsdp"])
@pytest.mark.parametrize("where", ["rollout", "wait for scores", "update"])
def test_a_signal_to_one_process_stops_all(tiny, tmp_path, sharding, where):
    settings = (*SETTINGS, "data.held_out=null", f"model.sharding={sharding}")
    run_dir, judge = tmp_path / "run", ColorJudge()
    with serving(judge) as url:
        judge.groups_until_away = AN_EPOCH_AND_A_BIT if where == "wait for scores" else None
        process = Forked("train", *tiny.arguments(url, run_dir, *settings), num_processes=2)
        process.wait_for(lambda: judge.num_groups >= (TWO_EPOCHS if where == "update" else AN_EPOCH_AND_A_BIT))
        if where != "rollout":
            time.sleep(0.3)
        process.send_signal(signal.SIGTERM, rank=1)
        assert process.ended() == [143, 143], process.output
        assert "stopped by SIGTERM after epoch 1" in process.output
        assert steps(run_dir) == ["step-1"]
        assert (judge.num_groups < TWO_EPOCHS) == (where != "update")


def test_epochs_that_had_been_rolled_out_ahead_get_the_same_tasks_again(tiny, tmp_path):
    settings = (*SETTINGS, "epochs=3", "data.held_out=null", "max_staleness=1", "checkpoint.every=3")
    judge = ColorJudge()
    with serving(judge) as url:
        tiny.train(url, tmp_path / "undisturbed", *settings)
        judge.num_groups, judge.groups_until_away = 0, 2 * GROUPS + 8  # epoch 2 is complete, epoch 3 begun ahead
        process = Forked("train", *tiny.arguments(url, tmp_path / "run", *settings))
        process.wait_for(lambda: judge.num_groups == judge.groups_until_away)
        process.wait_for(lambda: "epoch 2/3" in process.output)
        process.send_signal(signal.SIGTERM)
        assert process.ended() == [143], process.output
        assert steps(tmp_path / "run") == ["step-2"]
        judge.groups_until_away = None
        tiny.train(url, tmp_path / "run", *settings)
    assert [line["rollout/staleness_epochs"] for line in metrics(tmp_path / "undisturbed")] == [0, 1, 1]
    assert [line["rollout/staleness_epochs"] for line in metrics(tmp_path / "run")] == [0, 1, 0]
    ours, theirs = (json.loads((tmp_path / name / "checkpoints/step-3/state.json").read_text()) for name in RUNS)
    assert ours["sampler"] == theirs["sampler"]


def test_two_stopped_processes_go_on_bit_for_bit(tiny, tmp_path):
    settings, judge = (*SETTINGS, "data.held_out=null"), ColorJudge()
    with serving(judge) as url:

        def start(name):
            judge.num_groups = 0
            return Forked("train", *tiny.arguments(url, tmp_path / name, *settings), num_processes=2)

        assert start("undisturbed").ended() == [0, 0]
        process = start("run")
        process.wait_for(lambda: judge.num_groups >= AN_EPOCH_AND_A_BIT)
        process.send_signal(signal.SIGTERM)
        assert process.ended() == [143, 143], process.output
        assert start("run").ended() == [0, 0]
    assert_same_run(tmp_path / "run", tmp_path / "undisturbed")


def test_checkpoints_by_time_change_nothing_else(tiny, undisturbed, tmp_path):
    with serving(ColorJudge()) as url:
        for minutes, written in ((1e-6, ["step-1", "step-2"]), (60, ["step-2"])):
            run_dir = tmp_path / str(minutes)
            tiny.train(url, run_dir, *SETTINGS, "data.held_out=null", f"checkpoint.minutes={minutes}")
            assert steps(run_dir) == written
            assert_same_run(run_dir, undisturbed)
