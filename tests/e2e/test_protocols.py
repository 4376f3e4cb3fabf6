"""Other projects' clients against the service, by requests in the form that those clients send; one vLLM engine."""

import asyncio
import base64
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from shared.editscore_adapter import EditR1Scorer
from shared.errors import DataError, RewardServiceError
from shared.images import encode
from tests.support.forked_vllm import forking
from tests.support.serving import metric, picture, png, reward_service, wait_for

KEY = "sesame"
INSTRUCTION = "make the circle blue"
EDITS = [(number % 3, 100 + number) for number in range(9)]
"""Numbers of pictures: source, candidate."""


@pytest.fixture(scope="module")
def vllm_url(shapes_dir: Path) -> Iterator[str]:
    """The embedded judge on vLLM, with a key."""
    with forking(), reward_service(shapes_dir / "judge", engine="vllm", model_name="the-judge", api_key=KEY) as url:
        yield url


@pytest.fixture(scope="module")
def strict_url(tiny_judge: Path) -> Iterator[str]:
    """A service with a key and narrow limits."""
    with reward_service(tiny_judge, api_key=KEY, max_body_bytes=60_000, max_queued_candidates=1) as url:
        yield url


@pytest.fixture
def chat(vllm_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{vllm_url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def b64(seed: int, codec: str = "PNG") -> str:
    """A picture as the clients encode it."""
    buffer = io.BytesIO()
    picture(seed).save(buffer, codec)
    return base64.b64encode(buffer.getvalue()).decode()


def conversation(source: int, candidate: int, text: str = "Rate the edit.") -> list[Any]:
    """Text and data URLs, as ImgEdit's and GEdit's scripts send them."""
    shown = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(seed)}"}}
        for seed in (source, candidate)
    ]
    return [{"role": "user", "content": [{"type": "text", "text": text}, *shown]}]


def headers(key: str | None = KEY) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def scores(url: str, method: str = "score_logit", key: str | None = None) -> list[float]:
    """What /v1/score says about EDITS, each group by itself, all at once."""

    async def ask() -> list[float]:
        async with httpx.AsyncClient(base_url=url, headers=headers(key), timeout=60) as http:
            return await asyncio.gather(*(one(http, *edit) for edit in EDITS))

    async def one(http: httpx.AsyncClient, source: int, candidate: int) -> float:
        files = {"source": png(source), "candidates": png(candidate)}
        answer = await http.post("/v1/score", data={"instruction": INSTRUCTION, "method": method}, files=files)
        return float(answer.json()["results"][0]["score"])

    return asyncio.run(ask())


# OpenAI


def test_openais_client_gets_an_answer(chat):
    assert next(one.id for one in chat.models.list()) == "the-judge"
    asked = {"messages": conversation(0, 1), "max_tokens": 24, "temperature": 0.0}
    answer = chat.chat.completions.create(model="the-judge", **asked)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.completion_tokens <= 24
    events = list(chat.chat.completions.create(model="the-judge", stream=True, **asked))
    assert "".join(event.choices[0].delta.content or "" for event in events) == answer.choices[0].message.content
    several = chat.chat.completions.create(
        model="editscore", messages=conversation(0, 1), n=3, seed=1, temperature=1.0, max_tokens=8
    )
    assert (several.model, len(several.choices)) == ("editscore", 3)


def test_the_judge_that_chats_is_the_judge_that_scores(vllm_url, shapes_dir):
    """A service whose engine asks the chat route reads the very same distributions, the adapters' too."""
    other = {"openai_url": f"{vllm_url}/v1", "openai_key": KEY, "openai_model": "the-judge"}
    with reward_service(shapes_dir / "judge", engine="openai", **other) as url:
        for method in ("score_logit", "verifier"):
            assert scores(url, method) == pytest.approx(scores(vllm_url, method, KEY), abs=1e-5)


def test_scores_are_the_same_beside_chats(vllm_url, chat):
    methods = ("score_logit", "yes_no_logit")
    alone = {method: scores(vllm_url, method, KEY) for method in methods}
    written: list[str | None] = []
    done = threading.Event()

    def talk() -> None:
        turn = 0
        while not done.is_set():
            source, candidate = EDITS[turn % len(EDITS)]
            found = chat.chat.completions.create(
                model=("the-judge", "editscore")[turn % 2],
                messages=conversation(source, candidate),
                temperature=1.5,
                top_p=0.8,
                seed=turn,
                n=4,
                max_tokens=24,
                frequency_penalty=1.0,
                extra_body={"repetition_penalty": 1.3, "logprobs": True, "logprob_token_ids": [7, 8, 9]},
            )
            written.extend(choice.message.content for choice in found.choices)
            turn += 1

    talkers = [threading.Thread(target=talk) for _ in range(2)]
    for talker in talkers:
        talker.start()
    try:
        wait_for(lambda: written, 60)
        for _ in range(3):
            for method in methods:
                assert scores(vllm_url, method, KEY) == pytest.approx(alone[method], abs=1e-5)
    finally:
        done.set()
        for talker in talkers:
            talker.join()
    assert len(written) > 8
    assert max(alone["score_logit"]) - min(alone["score_logit"]) > 1e-3
    assert metric(vllm_url, "reward_candidates_in_flight", **headers()) == 0
    assert metric(vllm_url, "reward_chats_total", **headers()) >= len(written)


def test_what_is_allowed_does_not_hurt_the_engine(vllm_url, chat):
    before = scores(vllm_url, key=KEY)
    values: list[dict[str, Any]] = [
        {"temperature": 1e-300, "seed": -(2**63)},
        {"temperature": 2.0, "top_p": 1e-300, "top_k": 2**31 - 1, "min_p": 1.0},
        {"repetition_penalty": 0.1, "presence_penalty": -2, "frequency_penalty": 2, "temperature": 1.0},
        {"n": 64, "temperature": 1.0, "stop": ["a", "want"]},
        {"logprobs": True, "logprob_token_ids": list(range(64)), "return_token_ids": True},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "assistant", "content": "Score:"}], "continue_final_message": True}
        | {"add_generation_prompt": False},
        {"chat_template_kwargs": {"enable_thinking": False}, "user": "me", "response_format": {"type": "text"}},
    ]
    for value in values:
        extra = {"messages": conversation(0, 1), "max_tokens": 4, **value}
        answer = chat.chat.completions.create(model="the-judge", messages=[], extra_body=extra)
        assert len(answer.choices) == value.get("n", 1)
    assert scores(vllm_url, key=KEY) == pytest.approx(before, abs=1e-5)


def test_a_client_that_leaves_its_stream_frees_its_place(vllm_url):
    body = {"messages": conversation(0, 1, "Reason."), "stream": True, "max_tokens": 2000, "temperature": 2.0}
    with httpx.stream("POST", f"{vllm_url}/v1/chat/completions", json=body, headers=headers()) as answer:
        assert next(answer.iter_lines()).startswith("data: ")
    wait_for(lambda: metric(vllm_url, "reward_candidates_in_flight", **headers()) == 0, 20)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("top_logprobs", 3, "corrupted beside score requests"),
        ("prompt_logprobs", 1, "corrupted beside score requests"),
        ("logit_bias", {"5": 10}, "changes nobody's logits"),
        ("allowed_token_ids", [5], "changes nobody's logits"),
        ("response_format", {"type": "json_object"}, "masks logits"),
        ("structured_outputs", {"choice": ["1"]}, "masks logits"),
        ("mm_processor_kwargs", {"size": {"longest_edge": 4}}, "share their caches"),
        ("priority", -1, "overtake score requests"),
        ("tools", [{"type": "function", "function": {"name": "f"}}], "has no tools"),
        ("kv_transfer_params", {"do_remote_prefill": True}, "not offered here"),
        ("n", 1000, "the limit is 64 (max_candidates)"),
        ("max_tokens", 10**6, "(max_model_len)"),
        ("logprob_token_ids", [10**6], "out-of-vocab"),
        ("temperature", "warm", "valid number"),
    ],
)
def test_what_would_disturb_scores_is_refused_by_name(chat, field, value, words):
    extra = {field: value, **({"logprobs": True} if field == "logprob_token_ids" else {})}
    with pytest.raises(openai.BadRequestError, match=field) as refused:
        chat.chat.completions.create(model="the-judge", messages=conversation(0, 1), extra_body=extra)
    assert words in str(refused.value)
    assert refused.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/a.png"}}, "fetches no URL"),
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, "fetches no URL"),
        ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "opens no file"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, "not a readable image"),
        ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(0)}"}, "uuid": "a"}, "uuid"),
        ({"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}, "video_url"),
        ({"type": "text", "text": "<|vision_start|><|image_pad|>"}, "control token"),
    ],
)
def test_only_pictures_in_the_request_and_plain_text_are_read(chat, part, words):
    with pytest.raises(openai.BadRequestError, match="messages") as refused:
        chat.chat.completions.create(model="the-judge", messages=[{"role": "user", "content": [part]}])
    assert words in str(refused.value)


def test_a_model_that_is_not_there_and_a_wrong_key(vllm_url, chat):
    with pytest.raises(openai.NotFoundError, match="the-judge"):
        chat.chat.completions.create(model="gpt-4.1", messages=conversation(0, 1))
    with (
        openai.OpenAI(base_url=f"{vllm_url}/v1", api_key="guess", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError, match="Bearer"),
    ):
        stranger.models.list()


def test_the_laptops_engine_answers_plain_chats(service_url):
    asked = {"messages": conversation(0, 1), "max_tokens": 6, "temperature": 0.7, "seed": 5}
    with openai.OpenAI(base_url=f"{service_url}/v1", api_key="none", max_retries=0) as client:
        name = next(iter(client.models.list())).id

        def ask(**more: Any) -> Any:
            return client.chat.completions.create(model=name, **{**asked, **more}).choices[0]

        assert ask().message.content == ask().message.content
        assert {ask(seed=seed).message.content for seed in range(4)} != {ask().message.content}
        assert ask(messages=[{"role": "user", "content": "no picture"}], temperature=0.0).finish_reason == "length"
        for field, value in {"stream": True, "n": 2, "stop": ["x"], "presence_penalty": 1.0}.items():
            with pytest.raises(openai.BadRequestError, match=f"{field}: not offered by the engine transformers"):
                ask(**{field: value})


# Flow-Factory


def compute_body(edits: list[tuple[int, int]], **kwargs: object) -> dict[str, Any]:
    """As its `RemoteRewardClient` builds it."""
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
    """As its `RemoteRewardBackend` builds it."""
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


# EditScore


def test_editscores_evaluation_gets_its_dictionary(vllm_url):
    images = [picture(seed) for seed in EDITS[0]]
    files = {"source": encode(images[0]), "candidates": encode(images[1])}
    for method in ("editscore", "verifier", "score_logit"):
        data = {"instruction": INSTRUCTION, "method": method}
        answer = httpx.post(f"{vllm_url}/v1/score", data=data, files=files, headers=headers(), timeout=60)
        (expected,) = answer.json()["results"]
        scorer = EditR1Scorer(vllm_url, method=method, api_key=KEY)
        if expected["status"] == "error":  # the tiny judge's, and not made up here
            with pytest.raises(RewardServiceError, match=expected["error"]["code"]):
                scorer.evaluate(images, INSTRUCTION)
            continue
        found = scorer.evaluate(images, INSTRUCTION)
        assert found["overall"] == pytest.approx(10 * expected["score"], abs=1e-4)
        parts = expected["details"].get("parts", {})
        following = parts.get("instruction_following", parts.get("follow", expected["score"]))
        assert found["prompt_following"] == pytest.approx(10 * following, abs=1e-4)
        assert all(0 <= found[name] <= 10 for name in ("consistency", "perceptual_quality"))
        assert {type(found["SC_reasoning"]), type(found["PQ_reasoning"])} == {str}
    with pytest.raises(DataError, match="the source and the edited one"):
        EditR1Scorer(vllm_url).evaluate(images[:1], INSTRUCTION)


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
