"""The service as a process: starts, refuses unsuitable judges, reports why it is not ready, drains on SIGTERM."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.support.forked import Forked
from tests.support.serving import answers, free_port, metric, png, wait_for
from tests.support.tiny_judge import save_tiny_judge

UNTESTED = ("--calibration", "none")
"""For judges with random weights."""


@contextmanager
def process(*arguments: object) -> Iterator[tuple[Forked, str]]:
    port = free_port()
    running = Forked("serve", "--engine", "transformers", "--port", port, *arguments)
    try:
        yield running, f"http://127.0.0.1:{port}"
    finally:
        running.kill()


def unless_ready(url: str) -> httpx.Response | None:
    """The response of /readyz unless it is 200."""
    answer = httpx.get(f"{url}/readyz")
    return None if answer.is_success else answer


def run(*arguments: object) -> tuple[int, str]:
    """(exit status, output)."""
    return Forked("serve", "--engine", "transformers", "--port", free_port(), *arguments).finish(120)


def test_sigterm_answers_what_is_being_scored_and_ends_cleanly(tiny_judge):
    with process("--model", tiny_judge, *UNTESTED, "--max-reasoning-tokens", 200) as (running, url):
        running.wait_for(lambda: answers(f"{url}/readyz"))
        scored = []

        def score() -> None:
            files = [("source", png(0)), *(("candidates", png(i)) for i in range(20))]
            data = {"instruction": "x", "method": "score_logit_cot"}
            scored.append(httpx.post(f"{url}/v1/score", data=data, files=files, timeout=60))

        thread = threading.Thread(target=score)
        thread.start()
        wait_for(lambda: metric(url, "reward_candidates_in_flight") == 20)
        running.send_signal(signal.SIGTERM)
        refused = wait_for(lambda: unless_ready(url))
        assert refused is not None
        thread.join()
        assert refused.json()["code"] == "draining"
        assert refused.headers["Retry-After"]
        assert scored[0].status_code == 200
        assert running.finish(20)[0] == 0


def test_a_judge_whose_labels_are_not_single_tokens_is_refused(tmp_path):
    status, output = run("--model", save_tiny_judge(tmp_path / "judge", words=("Yes",), vocab_size=260))
    assert status == 1
    last = output.strip().splitlines()[-1]
    assert last.startswith("edit-r1: the reward service stopped: model")
    assert "each score label must be one token of its own, but 'No' is ['N', 'o']" in last
    assert "Traceback" not in output


def test_a_judge_that_fails_the_self_test_is_refused(tiny_judge, shapes_dir):
    status, output = run("--model", tiny_judge, "--calibration", shapes_dir / "samples", "--min-score-mass", 0)
    assert status == 1
    assert "self-test: a done edit beat an untouched or wrong one in" in output


def test_a_judge_that_writes_something_else_than_scores_is_refused(tiny_judge):
    status, output = run("--model", tiny_judge)  # with the built-in golden edits
    assert status == 1
    assert "self-test: score_logit: the judge puts a probability of only 0.0" in output
    assert "try the other wording (score_logit_direct)" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "/nowhere/judge"], "directory /nowhere/judge does not exist"),
        (["--port", "seventy"], "port: Input should be a valid integer"),
        (["--calibration", "/nowhere"], "calibration: no */instruction.txt in /nowhere"),
        (["--task-prompts", "/nowhere"], "no default.txt"),
        (["--modle", "x"], "--modle"),
    ],
)
def test_wrong_settings_end_in_a_clear_message(arguments, words):
    status, output = run(*arguments)
    assert status != 0
    assert words in output
    assert "Traceback" not in output


def test_settings_come_from_the_environment_too(tiny_judge, monkeypatch):
    monkeypatch.setenv("REWARD_MODEL_NAME", "little judge")
    monkeypatch.setenv("REWARD_MAX_CANDIDATES", "2")
    with process("--model", tiny_judge, *UNTESTED) as (running, url):
        running.wait_for(lambda: answers(f"{url}/healthz"))
        info = httpx.get(f"{url}/v1/info").json()
        assert (info["model"], info["limits"]["max_candidates"]) == ("little judge", 2)
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert "Score an image edit" in httpx.get(url).text
