"""The embedded judge in a service started with defaults: every method gives meaningful scores."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from edit_r1.command import app
from edit_r1.reward_service.app import create_app
from edit_r1.reward_service.methods import METHODS
from edit_r1.reward_service.methods.composite import NAME as COMPOSITE
from edit_r1.reward_service.settings import Settings
from edit_r1.worlds.shapes.studies.judge_table import ALONE
from tests.support.serving import serving, wait_until_ready

CANDIDATES = ("done", "untouched", "wrong")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    # All defaults: the embedded judge, and its world's golden edits as self-test.
    with serving(create_app(Settings(engine="transformers"))) as url:
        wait_until_ready(url)
        yield url


@pytest.fixture(scope="module")
def samples(shapes_dir: Path) -> list[Path]:
    return sorted((shapes_dir / "samples").iterdir())


def results(url: str, sample: Path, **data: str) -> list[dict[str, Any]]:
    names = [("source", "source"), *(("candidates", name) for name in CANDIDATES)]
    files = [(field, (sample / f"{name}.png").read_bytes()) for field, name in names]
    data = {"instruction": (sample / "instruction.txt").read_text(), **data}
    answer = httpx.post(f"{url}/v1/score", data=data, files=files, timeout=60)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


@pytest.mark.parametrize("method", ["score_logit", "yes_no_logit", "verifier", "composite"])
def test_done_beats_untouched_and_wrong(url, samples, method):
    scores = [[result["score"] for result in results(url, sample, method=method)] for sample in samples]
    pairs = [done > other for done, *others in scores for other in others]
    assert sum(pairs) / len(pairs) >= 0.9, scores


@pytest.mark.parametrize("method", [*ALONE, COMPOSITE])
def test_every_method_scores_the_golden_edits(url, samples, method):
    found = [result for sample in samples for result in results(url, sample, method=method, reasoning="true")]
    scored = [result for result in found if result["status"] == "ok"]
    assert len(scored) >= 0.9 * len(found), found
    if METHODS[method].reasoning and method != "unified_reward":  # whose whole answer may be its number
        assert all(result["reasoning"] for result in scored)
    if METHODS[method].labels:
        assert all(result["score_mass"] > 0.9 for result in scored)
    if method == "score_logit_cot":
        assert not any(result["details"]["closed"] for result in scored)


def test_the_command_scores_files(url, samples):
    arguments = ["--source", samples[0] / "source.png", "--instruction", (samples[0] / "instruction.txt").read_text()]
    candidates = [part for name in CANDIDATES for part in ("--candidate", samples[0] / f"{name}.png")]
    line = ["score", *map(str, arguments), *map(str, candidates), "--url", url]
    ended = CliRunner().invoke(app, line, env={"COLUMNS": "300"})
    assert ended.exit_code == 0, ended.output
    assert "score_logit by judge" in ended.output
    assert all(f"{name}.png" in ended.output for name in CANDIDATES)
    done = next(line for line in ended.output.splitlines() if "done.png" in line)
    assert any(f"{value:.3f}" in done for value in [r["score"] for r in results(url, samples[0])])


def test_the_command_fails_when_a_candidate_has_no_score(url, samples, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes((samples[0] / "done.png").read_bytes()[:60])
    files = ["--source", samples[0] / "source.png", "--candidate", samples[0] / "done.png", "--candidate", broken]
    line = ["score", *map(str, files), "--instruction", "x", "--url", url]
    ended = CliRunner().invoke(app, line, env={"COLUMNS": "300"})
    assert ended.exit_code == 1
    assert "candidate 1: not a readable image" in ended.output


def test_the_selftest_finds_the_embedded_judge_sound(url):
    line = ["selftest", "--url", url, "--method", "score_logit", "--method", "yes_no_logit"]
    ended = CliRunner().invoke(app, line, env={"COLUMNS": "200"})
    assert ended.exit_code == 0, ended.output
    rows = {
        row[0].strip(): row[1:] for row in (line.strip("│").split("│") for line in ended.output.splitlines()) if row
    }
    assert all(float(share.strip().rstrip("%")) >= 90 for share in rows["done > untouched"][:2])
    assert {"add", "adjust", "background", "extract", "remove", "replace"} <= set(rows)


def test_the_selftest_fails_a_judge_that_misleads(service_url):
    ended = CliRunner().invoke(app, ["selftest", "--url", service_url], env={"COLUMNS": "200"})
    assert ended.exit_code == 1
    assert "FAILED: score_logit" in ended.output
