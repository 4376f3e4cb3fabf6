"""Runs with several rewards: what is logged, resuming, and services that fail."""

import pytest
from typer.testing import CliRunner

from edit_r1.command import app
from edit_r1.shared.errors import ConfigError, RewardServiceUnavailable
from tests.support.color_judge import ColorJudge, serving
from tests.support.serving import free_port
from tests.support.tiny_run import metrics


@pytest.fixture(scope="module")
def picky_url():
    """A service that gives one candidate of each group no score."""
    with serving(ColorJudge(failing=frozenset({1}))) as picky:
        yield picky


def terms(other_url, method="score_logit"):
    return (
        "reward.terms=[{name: color, method: score_logit, weight: 3}, "
        f"{{name: other, method: {method}, url: '{other_url}'}}]"
    )


def test_a_candidate_without_one_of_its_rewards_is_missing_and_a_resumed_run_goes_on(tiny, url, picky_url, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    tiny.train(url, whole, terms(picky_url), "data.held_out=null")
    tiny.train(url, resumed, terms(picky_url), "data.held_out=null", "epochs=1")
    tiny.train(url, resumed, terms(picky_url), "data.held_out=null")
    lines = metrics(whole)
    assert lines == metrics(resumed)
    assert [line["epoch"] for line in lines] == [1, 2]
    for line in lines:
        assert line["reward/missing_fraction"] == line["reward/other_missing_fraction"] == 0.25
        assert line["reward/color_missing_fraction"] == 0
        assert 0 < line["reward/mean"] < 1
        assert line["optimality/std"] > 0
    assert "Missing scores of each reward" in (whole / "report.html").read_text()


def test_every_service_is_checked_before_the_model_is_loaded(tiny, url, picky_url, tmp_path):
    overrides = ("model.path=nowhere", "reward.wait_seconds=0")
    with pytest.raises(ConfigError, match=rf"reward\.terms\.1\.method = 'ocr': the service at {picky_url} offers"):
        tiny.train(url, tmp_path / "run", terms(picky_url, "ocr"), *overrides)
    nobody = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(RewardServiceUnavailable, match=rf"reward service at {nobody} not ready after 0 s"):
        tiny.train(url, tmp_path / "run", terms(nobody), *overrides)


def test_the_doctor_checks_every_service(tiny, url, picky_url):
    command = ["doctor", str(tiny.config), f"reward.url={url}", f"run_dir={tiny.folder / 'run'}"]
    ended = CliRunner().invoke(app, [*command, terms(picky_url)], env={"COLUMNS": "200"})
    assert ended.exit_code == 0, ended.output
    assert f"reward other, weight 1: service at {picky_url}: color-judge (numpy), method score_logit" in ended.output
    assert "scored a group of 4 (3 scores)" in ended.output
    assert "scores/s from the services of 2 rewards together" in ended.output

    nobody = f"http://127.0.0.1:{free_port()}"
    both_wrong = terms(nobody).replace("color, method: score_logit", "color, method: ocr")
    ended = CliRunner().invoke(app, [*command, both_wrong], env={"COLUMNS": "200"})
    (line,) = (line for line in ended.output.splitlines() if "FAIL" in line)
    assert f"reward.terms.0.method = 'ocr': the service at {url} offers" in line
    assert f"reward service at {nobody} not ready" in line
