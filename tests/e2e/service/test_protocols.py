"""Requests to the service in the form that other projects' clients send."""

import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.support.protocols import EDITS, INSTRUCTION, KEY, b64, conversation, headers, scores
from tests.support.serving import metric, reward_service, wait_for


@pytest.fixture(scope="module")
def strict_url(tiny_judge: Path) -> Iterator[str]:
    """A service with a key and narrow limits."""
    with reward_service(tiny_judge, api_key=KEY, max_body_bytes=60_000, max_queued_candidates=1) as url:
        yield url


# OpenAI; its client on vLLM: test_protocols_vllm


def test_the_laptops_engine_answers_plain_chats(service_url):
    asked = {"messages": conversation(0, 1), "max_tokens": 6, "temperature": 0.7, "seed": 5}
    with openai.OpenAI(base_url=f"{service_url}/v1", api_key="none", max_retries=0) as client:
        name = next(iter(client.models.list())).id
        ask = lambda **more: client.chat.completions.create(model=name, **{**asked, **more}).choices[0]  # noqa: E731
        assert ask().message.content == ask().message.content
        assert {ask(seed=seed).message.content for seed in range(4)} != {ask().message.content}
        assert ask(messages=[{"role": "user", "content": "no picture"}], temperature=0.0).finish_reason == "length"
        for field, value in {"stream": True, "n": 2, "stop": ["x"], "presence_penalty": 1.0}.items():
            with pytest.raises(openai.BadRequestError, match=f"{field}: not supported by the engine transformers"):
                ask(**{field: value})


# Flow-Factory


def compute_body(edits: list[tuple[int, int]], **kwargs: object) -> dict[str, Any]:
    """The body that Flow-Factory's `RemoteRewardClient` builds."""
    return {
        "prompt": [INSTRUCTION] * len(edits),
        "image": [b64(candidate) for _, candidate in edits],
        "video": None,
        "condition_images": [[b64(source)] for source, _ in edits],
        "condition_videos": None,
        "kwargs": kwargs or None,
    }


def test_flow_factorys_rewards_are_our_scores(service_url):
    assert httpx.get(f"{service_url}/health").is_success
    for method in ("score_logit", "yes_no_logit"):
        kwargs = {} if method == "score_logit" else {"method": method}
        answer = httpx.post(f"{service_url}/compute", json=compute_body(EDITS, **kwargs), timeout=60).json()
        assert answer["error"] is None
        assert answer["rewards"] == pytest.approx(scores(service_url, method), abs=1e-5)


def test_flow_factory_is_told_what_has_no_reward(service_url):
    body = compute_body(EDITS[:3])
    body["image"][1] = base64.b64encode(b"no picture").decode()
    answer = httpx.post(f"{service_url}/compute", json=body).json()
    assert answer["error"].startswith("item 1: invalid_image: ")
    assert [reward is None for reward in answer["rewards"]] == [False, True, False]
    for change, words in (
        ({"condition_images": None}, "condition_images"),
        ({"prompt": [INSTRUCTION]}, "lists of different lengths"),
        ({"video": [["AAAA"]]}, "video"),
        ({"image": ["http://127.0.0.1:9/a.png"] * 3}, "not base64"),
    ):
        refused = httpx.post(f"{service_url}/compute", json={**body, **change})
        assert refused.status_code == 422
        assert words in refused.json()["detail"]


# UniRL


def unirl_body(edits: list[tuple[int, int]], rewards: list[str], codec: str = "PNG") -> dict[str, Any]:
    """The body that UniRL's `RemoteRewardBackend` builds."""
    requests = [
        {
            "history": [{"text": INSTRUCTION, "image_b64": b64(seed, codec)} for seed in edit],
            "required_rewards": rewards,
            "metadata": None,
            "request_id": f"sample-{number}",
            "sample_id": f"sample-{number}",
            "group_id": "group",
            "source_rank": 0,
            "policy_version": None,
            "scorer_version": None,
            "idempotency_key": "0" * 64,
        }
        for number, edit in enumerate(edits)
    ]
    return {"protocol_version": "1", "requests": requests}


def test_unirls_rewards_are_our_scores(service_url):
    named = httpx.get(f"{service_url}/rewards").json()["rewards"]
    assert sorted(httpx.get(f"{service_url}/health").json()["rewards"]) == sorted(named)
    body = unirl_body(EDITS, ["score_logit", "yes_no_logit", "no_such"])
    answer = httpx.post(f"{service_url}/score", json=body, timeout=60).json()
    for method in ("score_logit", "yes_no_logit"):
        found = [one[method]["score"] for one in answer["results"]]
        assert found == pytest.approx(scores(service_url, method), abs=1e-5)
    assert all(list(one) == ["score_logit", "yes_no_logit"] for one in answer["results"])
    assert all("unknown_method" in failed["no_such"] for failed in answer["errors"])
    echoed = ("request_id", "sample_id", "group_id", "source_rank", "policy_version", "idempotency_key")
    for asked, identity in zip(body["requests"], answer["identities"], strict=True):
        assert identity == {name: asked[name] for name in echoed}
    assert httpx.post(f"{service_url}/score", json=unirl_body(EDITS[:1], ["score_logit"], "JPEG")).is_success


def test_unirl_is_told_what_cannot_be_read(service_url):
    body = unirl_body(EDITS[:1], ["score_logit"])
    alone = {**body["requests"][0], "history": body["requests"][0]["history"][:1]}
    film = {**body["requests"][0], "history": [{"text": "x", "video_path": "/etc/passwd"}] * 2}
    for change, words in (
        ({"requests": [alone]}, "history"),
        ({"requests": [film]}, "video_path"),
        ({"protocol_version": "2"}, "protocol_version"),
    ):
        refused = httpx.post(f"{service_url}/score", json={**body, **change})
        assert refused.status_code == 422
        assert words in refused.json()["detail"]


# All of them

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": conversation(0, 1), "max_tokens": 1, "temperature": 0},
    "/compute": compute_body(EDITS[:1]),
    "/score": unirl_body(EDITS[:1], ["score_logit"]),
}


@pytest.mark.parametrize("path", BODIES)
def test_every_protocol_has_the_key_and_the_limits(strict_url, path):
    def status(**request: Any) -> int:
        answer = httpx.post(f"{strict_url}{path}", **{"headers": headers(), "json": BODIES[path], **request})
        assert answer.status_code < 400 or "detail" in answer.json() or "message" in answer.json()["error"]
        return answer.status_code

    assert status() == 200
    assert status(headers=headers("guess")) == status(headers={}) == 401
    assert status(json={**BODIES[path], "padding": "x" * 60_000}) == 413
    assert status(json=None, content=b"{", headers={**headers(), "Content-Type": "application/json"}) == 400
    assert status(json=None, content=b"{}", headers=headers()) == 415


def test_a_full_queue_is_full_for_every_protocol(strict_url):
    http = httpx.Client(base_url=strict_url, headers=headers(), timeout=60)
    answers = []

    def talk() -> None:
        answers.append(http.post("/v1/chat/completions", json={**BODIES["/v1/chat/completions"], "max_tokens": 400}))

    talker = threading.Thread(target=talk)
    talker.start()
    wait_for(lambda: metric(strict_url, "reward_candidates_in_flight", **headers()) == 1)
    refused = {path: http.post(path, json=body) for path, body in BODIES.items()}
    talker.join()
    assert answers[0].status_code == 200
    assert {answer.status_code for answer in refused.values()} == {429}
    assert all(answer.headers["Retry-After"] for answer in refused.values())
    assert refused["/v1/chat/completions"].json()["error"]["type"] == "rate_limit_error"
