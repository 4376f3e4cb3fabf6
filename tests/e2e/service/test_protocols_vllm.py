"""OpenAI's client and EditScore's evaluation against the service on one vLLM engine."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from edit_r1.shared.errors import DataError, RewardServiceError
from edit_r1.shared.images import encode
from edit_r1.workbench.clients.editscore_adapter import EditR1Scorer
from tests.support.forked_vllm import forking
from tests.support.protocols import EDITS, INSTRUCTION, KEY, b64, conversation, headers, scores
from tests.support.serving import metric, picture, reward_service, wait_for


@pytest.fixture(scope="module")
def vllm_url(shapes_dir: Path) -> Iterator[str]:
    """The embedded judge on vLLM, with a key."""
    with forking(), reward_service(shapes_dir / "judge", engine="vllm", model_name="the-judge", api_key=KEY) as url:
        yield url


@pytest.fixture
def chat(vllm_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{vllm_url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


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
    """A service whose engine uses the chat route reads exactly the same distributions, with adapters too."""
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
        ("top_logprobs", 3, "corrupted when batched with score requests"),
        ("prompt_logprobs", 1, "corrupted when batched with score requests"),
        ("logit_bias", {"5": 10}, "changing logits is not supported"),
        ("allowed_token_ids", [5], "changing logits is not supported"),
        ("response_format", {"type": "json_object"}, "masks logits"),
        ("structured_outputs", {"choice": ["1"]}, "masks logits"),
        ("mm_processor_kwargs", {"size": {"longest_edge": 4}}, "which shares their caches"),
        ("priority", -1, "overtake score requests"),
        ("tools", [{"type": "function", "function": {"name": "f"}}], "has no tools"),
        ("kv_transfer_params", {"do_remote_prefill": True}, "not supported; supported fields"),
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


def test_editscores_evaluation_gets_its_dictionary(vllm_url):
    images = [picture(seed) for seed in EDITS[0]]
    files = {"source": encode(images[0]), "candidates": encode(images[1])}
    for method in ("editscore", "verifier", "score_logit"):
        data = {"instruction": INSTRUCTION, "method": method}
        answer = httpx.post(f"{vllm_url}/v1/score", data=data, files=files, headers=headers(), timeout=60)
        (expected,) = answer.json()["results"]
        scorer = EditR1Scorer(vllm_url, method=method, api_key=KEY)
        if expected["status"] == "error":  # the tiny judge's own, not invented here
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
    with pytest.raises(DataError, match="the source and the edited image"):
        EditR1Scorer(vllm_url).evaluate(images[:1], INSTRUCTION)
