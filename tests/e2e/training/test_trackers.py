"""A run's output besides metrics.jsonl: alarms, a second method, TensorBoard images, Weights & Biases, Trackio."""

import json
import shutil
import sqlite3

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from edit_r1.shared.errors import ConfigError
from tests.support.tiny_run import metrics

SETTINGS = ("data.held_out=null", "monitor.window=1")


def test_a_second_method_looks_at_some_of_the_same_edits(tiny, url, tmp_path):
    tiny.train(url, tmp_path, *SETTINGS, "monitor.second_method=score_logit", "monitor.second_groups=1")
    for line in metrics(tmp_path):
        # The same judge, so the two agree; ties within a group would count half.
        assert line["reward/second_gap"] == 0
        assert line["reward/second_agreement"] > 0.9
        assert line["alarm/second_gap"] == 0


def test_a_second_method_that_the_service_lacks_is_an_error_at_the_start(tiny, url, tmp_path):
    with pytest.raises(ConfigError, match=r"monitor\.second_method = 'verifier': the service .* offers score_logit"):
        tiny.train(url, tmp_path, "monitor.second_method=verifier")


def test_a_tracker_that_is_not_installed_is_an_error_at_the_start(tiny, url, tmp_path, monkeypatch):
    monkeypatch.setattr("edit_r1.trainer.run.preflight.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="trackers: wandb is not installed; install the extra `trackers`"):
        tiny.train(url, tmp_path, "trackers=[wandb]")


def test_an_alarm_is_told_once_and_shown_in_the_report(tiny, url, tmp_path, capsys):
    tiny.train(url, tmp_path, *SETTINGS, "monitor.min_group_std=1.0")
    assert capsys.readouterr().err.count("ALARM group_std: Rewards within a group hardly differ") == 1
    assert [line["alarm/group_std"] for line in metrics(tmp_path)] == [1, 1]
    html = (tmp_path / "report.html").read_text()
    assert "<td>group std</td><td>1-2</td>" in html
    assert "best of the epoch" in html
    assert "worst of the epoch" in html
    assert "color-judge" in html  # the reward service's description of itself


def test_groups_are_pictures_in_tensorboard(tiny, url, tmp_path):
    tiny.train(url, tmp_path, *SETTINGS, "epochs=1")
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (image,) = board.Images("rollout/groups")
    assert (image.width, image.height) == (5 * 128, 2 * 144)  # two groups: source and four candidates


def test_trackers_hear_every_epoch_once_also_when_the_run_is_resumed(tiny, url, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    run_dir, settings = tmp_path / "run", (*SETTINGS, "trackers=[wandb, trackio]", "tracker_project=tiny")
    tiny.train(url, run_dir, *settings, "epochs=2")
    run_id = json.loads((run_dir / "tracker.json").read_text())["id"]
    shutil.rmtree(run_dir / "checkpoints/step-2")  # as if it had been killed before that was written
    tiny.train(url, run_dir, *settings, "epochs=3")
    assert json.loads((run_dir / "tracker.json").read_text())["id"] == run_id
    assert list((run_dir / "wandb").glob(f"offline-run-*-{run_id}"))
    (database,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("select run_name, step, metrics from metrics order by step").fetchall()
    assert [(name, step) for name, step, _ in rows] == [(f"run-{run_id}", step) for step in (1, 2, 3)]
    logged = json.loads(rows[0][2])
    assert logged["reward/mean"] == pytest.approx(metrics(run_dir)[0]["reward/mean"])
