"""Judges behind APIs with the habits of several providers: scores, refusals and trouble, over real HTTP."""

import asyncio
import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from edit_r1.reward_service.engines.base import Engine, EngineOptions
from edit_r1.reward_service.engines.chat import Chat
from edit_r1.reward_service.engines.factory import build_engine
from edit_r1.reward_service.engines.remote import trouble
from edit_r1.reward_service.methods import METHODS, load_methods
from edit_r1.reward_service.methods.base import Method
from edit_r1.reward_service.scoring.self_ensemble import PassOptions, score_edit
from edit_r1.reward_service.types import JudgeImage, Message, Messages, Principle, SamplingSpec, Score
from edit_r1.shared.errors import AccountError, EngineError, UnparsableAnswerError, UnsuitableModelError
from edit_r1.shared.images import content_hash, decode
from tests.e2e.service.test_engines_exact import EDITS
from tests.support.provider import GEMINI, GPT, OLD, REASONING, SGLANG, Habits, Provider
from tests.support.serving import metric, png, reward_service, serving, wait_for

OPTIONS = PassOptions(1, seed=0, temperature=None, max_reasoning_tokens=None)
CLAIMS = (Principle("Is it done?", "follow"), Principle("Is the rest as before?", "keep"))


@contextmanager
def engine_at(provider: Provider, **options: Any) -> Iterator[Engine]:
    with serving(provider.app) as url:
        engine = build_engine("openai", EngineOptions(model="some-model", openai_url=f"{url}/v1", **options))
        yield engine
        engine.close()


def scores(
    engine: Engine, method: str, numbers: Sequence[int] = (0,), methods: Mapping[str, Method] = METHODS
) -> list[Score]:
    async def ask() -> list[Score]:
        edits = [replace(EDITS[number], principles=CLAIMS) for number in numbers]
        return [(await score_edit(engine, methods[method], edit, OPTIONS)).score for edit in edits]

    return asyncio.run(ask())


def score(engine: Engine, method: str) -> Score:
    (found,) = scores(engine, method)
    return found


class OpenVocabulary:
    """Says the first token's probabilities over the whole vocabulary, as our own engine computes them."""

    def __init__(self, judge: Path) -> None:
        self.engine = build_engine("transformers", EngineOptions(model=str(judge), dtype="float32"))
        chat = self.engine.chat
        assert isinstance(chat, Chat)
        found = {chat.decode([i]): i for i in range(len(chat.tokenizer))}
        self.labels = tuple(text for text, i in found.items() if text and chat.encode(text) == (i,))

    def __call__(self, messages: list[dict[str, Any]]) -> dict[str, float]:
        spec = SamplingSpec(labels=self.labels)
        (row,) = asyncio.run(self.engine.generate(received(messages), spec)).label_logprobs
        return dict(zip(self.labels, map(math.exp, row), strict=True))


def received(messages: list[dict[str, Any]]) -> Messages:
    """The conversation in a request."""

    def part(one: dict[str, Any]) -> str | JudgeImage:
        if one["type"] == "text":
            return str(one["text"])
        data = base64.b64decode(one["image_url"]["url"].partition(",")[2])
        return JudgeImage(decode(data), content_hash(data))

    contents = [(one["role"], one["content"]) for one in messages]
    return tuple(
        Message(role, (content,) if isinstance(content, str) else tuple(map(part, content)))
        for role, content in contents
    )


@pytest.fixture(scope="module")
def vocabulary(shapes_dir: Path) -> Iterator[OpenVocabulary]:
    found = OpenVocabulary(shapes_dir / "judge")
    yield found
    found.engine.close()


@pytest.mark.parametrize("method", ["score_logit", "yes_no_logit", "verifier"])
def test_where_the_top_tokens_hold_the_labels_scores_are_those_of_our_own_engine(vocabulary, method, shapes_dir):
    methods = load_methods(shapes_dir / "judge" / "prompts")  # which force no prefix
    with engine_at(Provider(GPT, vocabulary)) as engine:
        ours_and_theirs = (scores(one, method, range(3), methods) for one in (vocabulary.engine, engine))
        pairs = zip(*ours_and_theirs, strict=True)
        for ours, theirs in pairs:
            assert theirs.raw_score == pytest.approx(ours.raw_score, abs=1e-6)
            assert theirs.score_mass == pytest.approx(ours.score_mass, abs=1e-6)
            assert 0 <= theirs.details["uncovered_mass"] < 0.05


def test_spellings_of_a_label_are_summed_and_what_is_not_returned_is_told():
    says = {"4": 0.4, " 4": 0.2, "\u01205": 0.1, "I": 0.15, "3": 0.05, "2": 0.04, "1": 0.06}
    with engine_at(Provider(OLD, lambda _: says)) as engine:
        found = score(engine, "score_logit_direct")
    assert found.distribution == pytest.approx({"0": 0, "1": 3 / 38, "2": 0, "3": 0, "4": 30 / 38, "5": 5 / 38})
    assert found.score_mass == pytest.approx(0.76)
    assert found.details == {"uncovered_mass": pytest.approx(0.09)}


@pytest.mark.parametrize("habits", [GPT, GEMINI, OLD, SGLANG, REASONING])
def test_a_written_score_is_read_at_every_provider(habits):
    with engine_at(Provider(habits)) as engine:
        assert score(engine, "score_sampling").raw_score == 4.0


def test_thinking_has_room_beside_the_answer_and_is_the_reasoning():
    habits = Habits(thinking_tokens=300, message=lambda text: {"content": text, "reasoning_content": "I see a cat"})
    provider = Provider(habits)
    with engine_at(provider, max_reasoning_tokens=500) as engine:
        found = score(engine, "score_sampling")
    assert (found.raw_score, found.reasoning) == (4.0, "I see a cat")
    assert provider.bodies[-1]["max_tokens"] == 516
    with (
        engine_at(Provider(habits), max_reasoning_tokens=100) as engine,
        pytest.raises(Exception, match=r"cut off at its limit \(16 tokens and any thinking\): raise max_reasoning"),
    ):
        score(engine, "score_sampling")


def test_labels_are_read_after_the_thinking_or_not_at_all():
    says = {"4": 0.6, "2": 0.2, "</think>": 0.2}
    habits = Habits(thinking_tokens=3, thoughts=("4", " or 2?", "</think>", "\n"))
    provider = Provider(habits, lambda _: says)
    with engine_at(provider) as engine:
        assert score(engine, "score_logit_direct").raw_score == pytest.approx(3.5)
    provider.habits = replace(habits, message=lambda _: {"content": "something else"})
    with engine_at(provider) as engine, pytest.raises(EngineError, match="log-probabilities cannot be told from"):
        score(engine, "score_logit_direct")


@pytest.mark.parametrize(
    ("habits", "reason"),
    [
        (REASONING, "the server refuses logprobs and top_logprobs: .*Unsupported parameter: 'logprobs'"),
        (Habits(most_top=0), "returns no log-probabilities"),
    ],
)
def test_without_log_probabilities_labels_are_refused_with_the_cause(habits, reason):
    with engine_at(Provider(habits)) as engine:
        assert not engine.can_read_labels
        with pytest.raises(EngineError, match=reason):
            score(engine, "score_logit_direct")


@pytest.mark.parametrize(("habits", "continues"), [(SGLANG, True), (GPT, False), (Habits(), False)])
def test_reasoning_without_a_score_is_continued_where_the_server_can(habits, continues):
    def says(messages: list[dict[str, Any]]) -> Any:
        begun = messages[-1]["role"] == "assistant" and str(messages[-1]["content"]).endswith('"Score": ')
        return {"4": 0.75, "2": 0.25} if begun else "It looks fine to me"

    with engine_at(Provider(habits, says)) as engine:
        assert engine.can_continue == continues
        if continues:
            found = score(engine, "score_logit_cot")
            assert found.raw_score == pytest.approx(3.5)
            assert found.details == {"closed": True, "uncovered_mass": pytest.approx(0)}
        else:
            with pytest.raises(UnparsableAnswerError, match=r"never reached .*; the judge's API cannot continue"):
                score(engine, "score_logit_cot")
            with pytest.raises(EngineError, match=r"cannot be continued: the server .*continue_final_message"):
                asyncio.run(engine.generate((), SamplingSpec(prefix_ids=(65,))))


def test_a_filtered_answer_is_this_candidates_error():
    with engine_at(provider := Provider(GPT)) as engine:
        provider.habits = Habits(message=lambda _: {"content": None}, finish_reason="content_filter")
        with pytest.raises(EngineError, match="the judge declined: content_filter"):
            score(engine, "score_sampling")
        assert engine.trouble is None


def test_an_account_without_credit_is_told_before_the_start():
    provider = Provider(GPT)
    provider.trouble = (402, {"error": {"message": "Insufficient Balance"}}, {})
    with pytest.raises(AccountError, match="402: Insufficient Balance"), engine_at(provider):
        pass
    provider.trouble = (400, {"error": {"message": "this model reads no images"}}, {})
    told = r"no answer about an image from some-model: .*no images"
    with pytest.raises(UnsuitableModelError, match=told), engine_at(provider):
        pass


def judge_at(api: str, model: str) -> AbstractContextManager[str]:
    """A running reward service whose judge is behind this API."""
    return reward_service(Path(model), engine="openai", openai_url=api)


def scored(url: str, method: str = "score_logit_direct") -> httpx.Response:
    files = [("source", png(0)), ("candidates", png(1)), ("candidates", png(2))]
    return httpx.post(f"{url}/v1/score", data={"instruction": "x", "method": method}, files=files, timeout=60)


def test_trouble_of_the_account_makes_the_service_unready_until_it_is_mended(monkeypatch):
    monkeypatch.setattr(trouble, "_PAUSE_SECONDS", 1.0)
    provider = Provider(GPT)
    with serving(provider.app) as api, judge_at(f"{api}/v1", "some-model") as url:
        assert [one["raw_score"] for one in scored(url).json()["results"]] == [4.0, 4.0]
        assert metric(url, "reward_api_completion_tokens_total") == 2
        provider.trouble = (429, {"error": {"message": "out", "code": "insufficient_quota"}}, {})
        refused = scored(url)
        assert (refused.status_code, refused.json()["code"]) == (503, "account_refused")
        assert "answered 429: out" in refused.json()["detail"]
        ready = httpx.get(f"{url}/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "account_refused")
        assert httpx.get(f"{url}/healthz").status_code == 200
        provider.trouble = None
        wait_for(lambda: scored(url).status_code == 200)
        assert httpx.get(f"{url}/readyz").status_code == 200


def test_a_reward_service_is_a_judge_behind_an_api_too(service_url):
    """Its API returns no top log-probabilities: text is read, and methods that need labels say so."""
    with judge_at(f"{service_url}/v1", name_at(service_url)) as url:
        for method in ("composite", "score_logit_direct"):
            refused = scored(url, method)
            assert (refused.status_code, refused.json()["code"]) == (422, "unsupported_method")
        assert "needs log-probabilities, which the judge's API does not return" in refused.json()["detail"]
        results = scored(url, "score_sampling").json()["results"]
        assert {one.get("error", {}).get("code", "ok") for one in results} <= {"unparsable_answer", "ok"}


def name_at(url: str) -> str:
    return str(httpx.get(f"{url}/v1/models").json()["data"][0]["id"])
