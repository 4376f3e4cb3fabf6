"""The service as a process: starts, refuses unfit judges, tells why it is not ready, and drains on SIGTERM."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.support.serving import free_port, png, wait_until_ready
from tests.support.tiny_judge import save_tiny_judge

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edit_r1", "serve", "--engine", "transformers", *map(str, arguments)]


@contextmanager
def process(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port = free_port()
    line = command("--port", port, *arguments)
    running = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield running, f"http://127.0.0.1:{port}"
    finally:
        running.kill()
        running.communicate()


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("--port", free_port(), *arguments), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_sigterm_answers_what_is_being_scored_and_ends_cleanly(tiny_judge):
    with process("--model", tiny_judge, "--max-reasoning-tokens", 200) as (running, url):
        wait_for_port(url)
        wait_until_ready(url)
        answers = []

        def score() -> None:
            files = [("source", png(0)), *(("candidates", png(i)) for i in range(20))]
            data = {"instruction": "x", "method": "score_logit_cot"}
            answers.append(httpx.post(f"{url}/v1/score", data=data, files=files, timeout=60))

        thread = threading.Thread(target=score)
        thread.start()
        wait_for_work(url)
        running.send_signal(signal.SIGTERM)
        refused = wait_for_refusal(url)
        thread.join()
        assert refused.json()["code"] == "draining"
        assert refused.headers["Retry-After"]
        assert answers[0].status_code == 200
        assert running.wait(timeout=20) == 0


def test_a_judge_whose_labels_are_not_single_tokens_is_refused(tmp_path):
    run_ended = run("--model", save_tiny_judge(tmp_path / "judge", words=("Yes",), vocab_size=260))
    assert run_ended.returncode == 1
    last = run_ended.stderr.strip().splitlines()[-1]
    assert last.startswith("edit-r1: the reward service ended: model")
    assert "each score label must be one token of its own, but 'No' is ['N', 'o']" in last
    assert "Traceback" not in run_ended.stderr


def test_a_judge_that_fails_the_self_test_is_refused(tiny_judge, shapes_dir):
    run_ended = run("--model", tiny_judge, "--calibration", shapes_dir / "samples")
    assert run_ended.returncode == 1
    assert "self-test: a done edit beat an untouched or wrong one in" in run_ended.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "/nowhere/judge"], "no directory /nowhere/judge"),
        (["--port", "seventy"], "port: Input should be a valid integer"),
        (["--calibration", "/nowhere"], "calibration: no */instruction.txt in /nowhere"),
        (["--task-prompts", "/nowhere"], "no default.txt"),
        (["--modle", "x"], "--modle"),
    ],
)
def test_wrong_settings_end_in_a_clear_message(arguments, words):
    run_ended = run(*arguments)
    assert run_ended.returncode != 0
    assert words in run_ended.stderr
    assert "Traceback" not in run_ended.stderr


def test_settings_come_from_the_environment_too(tiny_judge, monkeypatch):
    monkeypatch.setenv("REWARD_MODEL_NAME", "little judge")
    monkeypatch.setenv("REWARD_MAX_CANDIDATES", "2")
    with process("--model", tiny_judge) as (_, url):
        wait_for_port(url)
        info = httpx.get(f"{url}/v1/info").json()
        assert (info["model"], info["limits"]["max_candidates"]) == ("little judge", 2)
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert "Score an image edit" in httpx.get(url).text


def wait_for_port(url: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/healthz")
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the port never opened")


def wait_for_work(url: str) -> None:
    while "candidates_in_flight 20.0" not in httpx.get(f"{url}/metrics").text:
        time.sleep(0.01)


def wait_for_refusal(url: str) -> httpx.Response:
    while (answer := httpx.get(f"{url}/readyz")).status_code == 200:
        time.sleep(0.01)
    return answer
