"""`edit-r1 data rationality` against a real HTTP server with an OpenAI-compatible API."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from edit_r1.shared import images
from edit_r1.shared.errors import AccountError, ConfigError, DataError, EndpointRefused, EndpointUnavailable
from edit_r1.workbench.data_prep.rationality import read_verdict
from edit_r1.workbench.data_prep.resumable_jobs import progress_path
from tests.support.data_commands import data, read, row, save, write
from tests.support.forked import Forked
from tests.support.provider import Habits, Provider
from tests.support.serving import free_port, serving


class FakeModel:
    """Answers by the number in the instruction: `answer 7` gets `answers[7]`, or `Yes` if there is none.

    Attributes:
        asked: the instructions, in order of arrival.
        refusals: number of requests that get `status` before the first answer.
        held_from: questions with this number or a higher one wait until `released`.

    """

    def __init__(self) -> None:
        self.answers: dict[int, str] = {}
        self.asked: list[int] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.refusals, self.status = 0, 503
        self.held_from: int | None = None
        self.released = threading.Event()
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self.complete)

    async def complete(self, request: Request) -> Response:
        if self.refusals:
            self.refusals -= 1
            return JSONResponse({"error": "busy"}, self.status, headers={"Retry-After": "0"})
        body = await request.json()
        text = body["messages"][0]["content"][-1]["text"]
        number = int(text.partition("answer ")[2].split()[0])
        self.asked.append(number)
        self.bodies.append(body)
        self.keys.append(request.headers.get("Authorization"))
        if self.held_from is not None and number >= self.held_from:
            await anyio.to_thread.run_sync(self.released.wait)
        message = {"role": "assistant", "content": self.answers.get(number, "Yes")}
        return JSONResponse({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def url(model: FakeModel) -> Iterator[str]:
    with serving(model.app) as root:
        yield f"{root}/v1"
        model.released.set()


def tasks(folder: Path, count: int) -> Path:
    save(folder / "a.png")
    lines = [{"prompt": f"answer {n}", "image": "a.png", "task": "adjust", "metadata": {"n": n}} for n in range(count)]
    return write(folder / "in.jsonl", *lines)


def ask(source: Path, url: str, *more: object) -> str:
    return data(
        "rationality", source, "--out", source.parent / "out/out.jsonl", "--url", url, "--model", "judge", *more
    )


def kept(folder: Path) -> list[int]:
    return [line["metadata"]["n"] for line in read(folder / "out/out.jsonl")]


def test_tasks_with_yes_are_kept_in_their_order(tmp_path, model, url):
    model.answers = {1: "No.", 3: " **no**, it is gone", 4: "It depends", 6: "yes, surely", 7: ""}
    table = ask(tasks(tmp_path, 30), url, "--in-flight", 5)
    assert kept(tmp_path) == [n for n in range(30) if n not in (1, 3, 4, 7)]
    assert read(tmp_path / "out/out.jsonl")[0]["image"] == "../a.png"
    assert [row(table, name) for name in ("read", "written", "dropped: answer No", "dropped: unclear")] == [
        30,
        26,
        2,
        2,
    ]
    assert "line 5: unclear answer 'It depends'" in table


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Yes", True),
        ("yes.", True),
        ('"No"', False),
        ("NO\nbecause", False),
        ("Yesterday", None),
        ("", None),
        ("?", None),
    ],
)
def test_a_verdict_is_the_first_word(answer, verdict):
    assert read_verdict(answer) is verdict


def test_the_question_holds_pictures_instruction_and_key(tmp_path, model, url):
    save(tmp_path / "a.png", 1, (300, 200))
    save(tmp_path / "b.png", 2, (30, 20))
    source = write(tmp_path / "in.jsonl", {"prompt": "answer 5 {instruction}", "images": ["a.png", "b.png"]})
    ask(source, url, "--api-key", "secret", "--max-pixels", 15_000)
    (body,) = model.bodies
    *pictures, text = body["messages"][0]["content"]
    urls = [part["image_url"]["url"] for part in pictures]
    assert all(one.startswith("data:image/webp;base64,") for one in urls)
    sizes = [images.decode(base64.b64decode(one.partition(",")[2])).size for one in urls]
    assert sizes == [(150, 100), (30, 20)]
    assert "\nanswer 5 {instruction}\n" in text["text"]
    assert text["text"].endswith("Yes or No.")
    assert (body["model"], body["temperature"]) == ("judge", 0.0)
    assert model.keys == ["Bearer secret"]


def test_the_question_may_be_another(tmp_path, model, url):
    (tmp_path / "q.txt").write_text("Is it sound: {instruction} ?\n")
    ask(tasks(tmp_path, 1), url, "--question", tmp_path / "q.txt")
    assert model.bodies[0]["messages"][0]["content"][-1]["text"] == "Is it sound: answer 0 ?"
    (tmp_path / "q.txt").write_text("Is it sound?\n")
    with pytest.raises(DataError, match=r"q\.txt must contain \{instruction\}"):
        ask(tmp_path / "in.jsonl", url, "--question", tmp_path / "q.txt")


def test_passing_trouble_is_tried_again(tmp_path, model, url):
    model.refusals = 3
    ask(tasks(tmp_path, 4), url)
    assert kept(tmp_path) == [0, 1, 2, 3]


def test_a_judgement_that_fails_ends_the_command_and_keeps_what_was_done(tmp_path, model, url):
    source = tasks(tmp_path, 6)
    model.refusals, model.status = 1, 401
    with pytest.raises(ConfigError, match=r"/v1/chat/completions answered 401: busy"):
        ask(source, url, "--in-flight", 1)
    model.refusals, model.status = 1, 402
    with pytest.raises(AccountError, match=r"/v1/chat/completions answered 402: busy"):
        ask(source, url, "--in-flight", 1)
    model.refusals, model.status = 1, 400
    with pytest.raises(EndpointRefused, match=r"/v1/chat/completions answered 400: busy"):
        ask(source, url, "--in-flight", 1)
    with pytest.raises(EndpointUnavailable, match=r"gave no answer in \d\.\d s: .*connect"):
        ask(source, f"http://127.0.0.1:{free_port()}/v1", "--retry", 0.3)
    with pytest.raises(ConfigError, match=r"url must be an API base URL .*, got 'localhost:8000'"):
        ask(source, "localhost:8000")
    assert kept(tmp_path) == []
    ask(source, url)
    assert kept(tmp_path) == list(range(6))


def test_a_model_that_still_thinks_at_the_limit_ends_the_command(tmp_path):
    provider = Provider(Habits(thinking_tokens=100), lambda _messages: "Yes")
    source = tasks(tmp_path, 3)
    prices = ("--model", "some-model", "--price-in", 1, "--price-out", 2)
    with serving(provider.app) as root:
        with pytest.raises(ConfigError, match="line 1: the model was still thinking at the limit of 16 tokens"):
            ask(source, root + "/v1", *prices)
        table = ask(source, root + "/v1", *prices, "--max-tokens", 500)
    assert kept(tmp_path) == [0, 1, 2]
    assert "3 requests: about " in table
    assert "at most 1,500 answer tokens, at most 0.00 at the given prices" in table
    assert "and 303 answer tokens, cost 0.00 at the given prices" in table


def test_pictures_that_are_gone_are_counted_not_asked_about(tmp_path, model, url):
    source = tasks(tmp_path, 2)
    write(source, *read(source), {"prompt": "answer 9", "image": "gone.png"})
    assert row(ask(source, url), "dropped: image missing") == 1
    assert sorted(model.asked) == [0, 1]


def test_killed_and_started_again_it_asks_only_what_is_open(tmp_path, model, url):
    source = tasks(tmp_path, 12)
    model.answers, model.held_from = {2: "No", 8: "No", 9: "perhaps"}, 5
    out = tmp_path / "out/out.jsonl"
    options = ["--out", out, "--url", url, "--model", "judge", "--in-flight", "2"]
    running = Forked("data", "rationality", source, *options)
    progress = progress_path(out)
    running.wait_for(lambda: progress.exists() and json.loads(progress.read_text())["counts"]["read"] >= 5)
    running.kill()
    assert kept(tmp_path) == [0, 1, 3, 4]
    with out.open("ab") as file:
        file.write(b'{"prompt": "torn')
    model.held_from = None
    model.released.set()
    model.asked.clear()
    table = ask(source, url, "--in-flight", 2)
    assert sorted(model.asked) == list(range(5, 12))
    assert kept(tmp_path) == [0, 1, 3, 4, 5, 6, 7, 10, 11]
    assert [row(table, f"dropped: {reason}") for reason in ("answer No", "unclear")] == [2, 1]
    undisturbed = tmp_path / "undisturbed"
    ask(tasks(undisturbed, 12), url)
    assert (undisturbed / "out/out.jsonl").read_bytes() == out.read_bytes()
