import json
import random
import time

import pytest
import torch
import yaml
from safetensors.torch import load_file

from edit_r1.shared.errors import CheckpointError, ConfigError
from tests.support.forked import Forked
from tests.support.tiny_run import metrics


@pytest.fixture(scope="module")
def uninterrupted(tiny, url, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    tiny.train(url, run_dir, "epochs=4")
    return run_dir


def assert_same_run(ours, theirs, step=4):
    """Compare every tensor of the last checkpoint bit for bit, and every number of every epoch."""
    files = sorted(path.relative_to(theirs) for path in (theirs / f"checkpoints/step-{step}").rglob("*.safetensors"))
    assert len(files) == 5
    for file in files:
        left, right = load_file(ours / file), load_file(theirs / file)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left), file
    assert metrics(ours) == metrics(theirs)


def test_a_killed_run_goes_on_as_if_it_had_never_stopped(tiny, url, uninterrupted, tmp_path):
    run_dir = tmp_path / "run"
    arguments = tiny.arguments(url, run_dir, "epochs=4", "resume=auto")
    process = Forked("train", *arguments)
    process.wait_for((run_dir / "checkpoints/step-2").exists)
    process.kill()
    assert not (run_dir / "checkpoints/step-4").exists()

    tiny.train(url, run_dir, "epochs=4", "resume=auto")
    assert_same_run(run_dir, uninterrupted)


def test_two_processes_killed_at_any_moment_again_and_again_are_the_run_that_was_not(tiny, url, tmp_path):
    # Some tasks get banned: the ban list must be restored too.
    settings = ("epochs=3", "filter.ban=true", "filter.tau_mean=0.262", "filter.tau_spread=0.5", "trackers=[trackio]")
    environment = {"TRACKIO_DIR": str(tmp_path / "trackio")}

    def start(run_dir):
        return Forked("train", *tiny.arguments(url, run_dir, *settings), num_processes=2, **environment)

    status, output = start(tmp_path / "whole").finish()
    assert status == 0, output
    moment = random.Random(0)  # noqa: S311 - no secret
    for num_epochs in (1, 2):
        process = start(tmp_path / "run")
        process.wait_for((tmp_path / f"run/checkpoints/step-{num_epochs}").exists)
        time.sleep(moment.uniform(0, 0.5))
        process.kill()
    status, output = start(tmp_path / "run").finish()
    assert status == 0, output
    assert_same_run(tmp_path / "run", tmp_path / "whole", 3)
    ours, theirs = (
        json.loads((tmp_path / name / "checkpoints/step-3/state.json").read_text()) for name in ("run", "whole")
    )
    assert ours["sampler"] == theirs["sampler"]
    assert ours["sampler"]["banned"]


def test_a_torn_newest_checkpoint_is_skipped_and_the_run_is_still_the_same(tiny, url, uninterrupted, tmp_path, capsys):
    run_dir = tmp_path / "run"
    tiny.train(url, run_dir, "epochs=3")
    torn = run_dir / "checkpoints/step-3/optimizer.safetensors"
    torn.write_bytes(torn.read_bytes()[:1000])
    tiny.train(url, run_dir, "epochs=4")
    told = capsys.readouterr().err
    assert "skipping damaged checkpoint" in told
    assert "step-3: optimizer.safetensors has 1,000 of" in told
    assert "step-2 after 2 epochs" in told
    # The evaluation at the end of the shorter run is no longer recorded: metrics are those of one run of four epochs.
    assert_same_run(run_dir, uninterrupted)


def test_resuming_a_finished_run_changes_nothing(tiny, url, uninterrupted, tmp_path):
    before = metrics(uninterrupted)
    summary = tiny.train(url, uninterrupted, "epochs=4")
    assert metrics(uninterrupted) == before
    assert summary["after"] is not None


def test_a_run_can_start_from_another_runs_checkpoint(tiny, url, uninterrupted, tmp_path):
    run_dir = tmp_path / "run"
    tiny.train(url, run_dir, "epochs=4", f"resume={uninterrupted / 'checkpoints/step-2'}")
    ours = [line for line in metrics(run_dir) if line["epoch"] > 2]
    assert ours == [line for line in metrics(uninterrupted) if line["epoch"] > 2]


def test_resume_none_refuses_a_used_directory(tiny, url, uninterrupted):
    with pytest.raises(ConfigError, match="already contains a run: set resume=auto"):
        tiny.train(url, uninterrupted, "resume=none")


def test_a_checkpoint_that_is_not_there_is_a_clear_error(tiny, url, tmp_path):
    with pytest.raises(CheckpointError, match=r"step-9: manifest\.json is missing"):
        tiny.train(url, tmp_path / "run", f"resume={tmp_path / 'step-9'}")


@pytest.mark.parametrize("override", ["seed=1", "lora.rank=4", "groups_per_epoch=4"])
def test_what_a_checkpoint_depends_on_cannot_change(tiny, url, uninterrupted, override):
    with pytest.raises(CheckpointError, match=f"cannot resume .*{override.split('=')[0]} was"):
        tiny.train(url, uninterrupted, "epochs=5", override)


def test_other_changes_are_told(tiny, url, uninterrupted, tmp_path, capsys):
    checkpoint = uninterrupted / "checkpoints/step-4"
    changes = ("optimizer.learning_rate=0.001", "evaluation.true_cfg=2", "evaluation.pictures=1")
    tiny.train(url, tmp_path / "run", "epochs=4", f"resume={checkpoint}", *changes)
    told = capsys.readouterr().err
    assert "resuming with optimizer.learning_rate = 0.001 (was 0.003)" in told
    assert "resuming with evaluation.true_cfg = 2.0 (was 'rollout')" in told
    assert "evaluation.pictures" not in told


def test_a_run_from_before_values_were_renamed_resumes(tiny, url, tmp_path, capsys):
    settings = ("epochs=2", "data.held_out=null", "model.aspect=stretch", "filter.ban=true", "filter.tau_mean=0.262")
    tiny.train(url, tmp_path / "whole", *settings)
    tiny.train(url, tmp_path / "run", *settings, "epochs=1")
    former = tmp_path / "run/checkpoints/step-1/config.yaml"
    values = yaml.safe_load(former.read_text())
    values["model"]["aspect"] = "fixed"
    values["filter"]["rule"] = "ban"
    del values["filter"]["ban"]
    former.write_text(yaml.safe_dump(values))
    manifest = former.with_name("manifest.json")
    manifest.write_text(json.dumps({k: v for k, v in json.loads(manifest.read_text()).items() if k != former.name}))
    capsys.readouterr()
    with pytest.raises(CheckpointError, match=r"model\.aspect was 'stretch', is 'crop'; set what it was"):
        tiny.train(url, tmp_path / "run", "epochs=2", "data.held_out=null")
    tiny.train(url, tmp_path / "run", *settings)
    assert "resuming with" not in capsys.readouterr().err
    assert_same_run(tmp_path / "run", tmp_path / "whole", 2)
