"""Thousands of generated requests: no 5xx except 503, responses as documented, and the service stays alive."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import response_schema_conformance

from edit_r1.reward_service.app import create_app
from edit_r1.reward_service.compat.openai_body import ChatFields
from edit_r1.reward_service.settings import Settings
from edit_r1.shared.schemas import Problem, ScoreResponse
from tests.support.serving import encoded, picture, png

SCHEMA = schemathesis.openapi.from_dict(create_app(Settings()).openapi())
OPERATIONS: list[Any] = [found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)]
NO_SHRINKING = (Phase.explicit, Phase.generate)
IMAGES_A_REQUEST = 8
MIN_CASES = 2000
CASES: Counter[str] = Counter()
CODECS = ("PNG", "JPEG", "WEBP", "PPM", "GIF", "TIFF")
SEEDS = [encoded(picture(seed, 32), codec) for seed, codec in enumerate(CODECS)]


@pytest.fixture(scope="module")
def http(service_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service_url, timeout=60) as client:
        yield client


@pytest.fixture(autouse=True)
def alive_afterwards(http: httpx.Client) -> Iterator[None]:
    yield
    assert http.get("/readyz").status_code == 200
    good = {"source": png(0), "candidates": png(1)}
    answer = http.post("/v1/score", data={"instruction": "make it blue"}, files=good)
    assert answer.json()["results"][0]["status"] == "ok"


def check(status: int, body: bytes, kind: str) -> None:
    """Invariants of every response."""
    assert status < 500 or status == 503, body[:500]
    if status >= 400:
        assert kind.startswith("application/problem+json")
        problem = Problem.model_validate_json(body)
        assert problem.status == status
        assert problem.detail
    CASES[str(status)] += 1


# Without schemathesis' decorator: its tests share one name, so pytest-xdist would run only one of them.
@pytest.mark.parametrize("operation", OPERATIONS, ids=[one.label for one in OPERATIONS])
@settings(
    max_examples=200, deadline=None, derandomize=True, phases=NO_SHRINKING, suppress_health_check=list(HealthCheck)
)
@given(data=st.data())
def test_the_documented_interface(operation: Any, data: st.DataObject, service_url: str) -> None:
    case = data.draw(operation.as_strategy())
    answer = case.call(base_url=service_url)
    check(answer.status_code, answer.content, answer.headers["content-type"][0])
    case.validate_response(answer, checks=[response_schema_conformance])


@st.composite
def damaged_images(draw: st.DrawFn) -> bytes:
    """An image with bytes changed, removed, repeated or inserted; or arbitrary bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=64))
    found = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(found)))
        end = min(len(found), start + draw(st.integers(0, 32)))
        found[start:end] = draw(st.one_of(st.binary(max_size=8), st.just(bytes(found[start:end] * 2))))
    return bytes(found)


@settings(
    max_examples=200, deadline=None, derandomize=True, phases=NO_SHRINKING, suppress_health_check=list(HealthCheck)
)
@given(
    pictures=st.lists(damaged_images(), min_size=IMAGES_A_REQUEST, max_size=IMAGES_A_REQUEST), as_source=st.booleans()
)
def test_bytes_that_may_be_images(http: httpx.Client, pictures: list[bytes], as_source: bool) -> None:
    """Candidates succeed or fail one by one; an unreadable source fails the whole request."""
    sources, candidates = (pictures[:1], pictures[1:]) if as_source else ([png(0)], pictures)
    files = [("source", ("s", one)) for one in sources] + [("candidates", ("c", one)) for one in candidates]
    answer = http.post("/v1/score", data={"instruction": "make it blue"}, files=files)
    check(answer.status_code, answer.content, answer.headers["content-type"])
    if answer.status_code == 200:
        found = ScoreResponse.model_validate_json(answer.content)
        assert len(found.results) == len(candidates)
        CASES["image"] += len(candidates)
    else:
        assert as_source, answer.text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("task", "method", "seed", "num_passes", "temperature", "reasoning", "principles", "composite", "requirement")


@settings(
    max_examples=300, deadline=None, derandomize=True, phases=NO_SHRINKING, suppress_health_check=list(HealthCheck)
)
@given(
    texts=st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=30) | JSON.map(json.dumps), max_size=4),
    instruction=st.text(max_size=60),
)
def test_texts_of_a_form(http: httpx.Client, texts: dict[str, str], instruction: str) -> None:
    form = {"instruction": instruction, **texts}
    files = {"source": png(0), "candidates": png(1)}
    answer = http.post("/v1/score", data=form, files=files)
    check(answer.status_code, answer.content, answer.headers["content-type"])


CHAT_FIELDS = sorted({*ChatFields.model_fields, "top_logprobs", "tools", "response_format"} - {"max_completion_tokens"})
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "video_url"])},
    optional={"text": st.text(max_size=20) | JSON, "image_url": st.text(max_size=20) | JSON, "uuid": st.text()},
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "tool"]), "content": st.text() | st.lists(PARTS)}
    ),
    max_size=3,
)
PLAIN = st.just([{"role": "user", "content": "Is the circle blue?"}])


@settings(
    max_examples=300, deadline=None, derandomize=True, phases=NO_SHRINKING, suppress_health_check=list(HealthCheck)
)
@given(fields=st.dictionaries(st.sampled_from(CHAT_FIELDS), JSON, max_size=3), messages=PLAIN | MESSAGES | JSON)
def test_chats(http: httpx.Client, fields: dict[str, Any], messages: Any) -> None:
    """Not in our OpenAPI document, because the schema is OpenAI's. Rejections use its error object."""
    body = {"messages": messages, **fields, "max_tokens": 1}
    kind = {"Content-Type": "application/json"}
    answer = http.post("/v1/chat/completions", content=json.dumps(body), headers=kind)
    assert answer.status_code < 500, answer.text
    if answer.status_code == 200:
        assert answer.json()["choices"][0]["message"]["role"] == "assistant"
    else:
        assert answer.json()["error"]["message"]
        assert answer.json()["error"]["type"] == "invalid_request_error"
    CASES[f"chat {answer.status_code}"] += 1


def test_that_was_enough_of_every_kind() -> None:
    """Runs last: the preceding tests sent every kind of request and reached both the scorer and the rejections."""
    assert sum(CASES.values()) >= MIN_CASES, CASES
    assert min(CASES[kind] for kind in ("200", "422", "image", "chat 400")) > 100, CASES
    assert CASES["chat 200"] > 10, CASES
