"""Both engines read the same judge the same way: 50 edits, float32, to 1e-3; and what an engine must bear."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reward_service.engines.base import Engine, EngineOptions, build_engine
from reward_service.methods import METHODS
from reward_service.passes import answer_to_the_end
from reward_service.types import Answer, Edit, JudgeImage, Messages
from shared.errors import EngineError
from tests.support.serving import picture

NUM_EDITS = 50
Ask = Callable[[str], list[Answer]]


def edits() -> list[Edit]:
    """Sources and candidates of several sizes, several instructions."""
    return [
        Edit(
            instruction=f"change the {('red', 'green', 'blue')[i % 3]} circle to yellow",
            requirement="None",
            sources=(image(i // 5),),
            candidate=image(100 + i, side=(32, 48, 64)[i % 3]),
        )
        for i in range(NUM_EDITS)
    ]


def image(seed: int, side: int = 32) -> JudgeImage:
    return JudgeImage(picture(seed, side), f"{seed}-{side}")


def conversations(method: str) -> list[Messages]:
    return [METHODS[method].build_messages(edit) for edit in edits()]


def ask(engine: Engine, method: str) -> list[Answer]:
    """One answer an edit, all asked at once; reasonings are kept short."""
    spec = METHODS[method].spec
    spec = replace(spec, max_tokens=min(spec.max_tokens, 24))

    async def all_at_once() -> list[Answer]:
        return await asyncio.gather(*(answer_to_the_end(engine, messages, spec) for messages in conversations(method)))

    return asyncio.run(all_at_once())


@pytest.fixture(scope="module")
def transformers_engine(tiny_judge: Path) -> Iterator[Engine]:
    engine = build_engine("transformers", EngineOptions(model=str(tiny_judge)))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def vllm_answers(tiny_judge: Path) -> dict[str, list[Answer]]:
    """vLLM's answers to every logit method; its process ends before the others' tests begin."""
    pytest.importorskip("vllm")

    async def answers() -> dict[str, list[Answer]]:
        engine = await asyncio.to_thread(build_engine, "vllm", EngineOptions(model=str(tiny_judge)))
        found = {}
        try:
            for name, method in METHODS.items():
                spec = replace(method.spec, max_tokens=min(method.spec.max_tokens, 24))
                asked = (answer_to_the_end(engine, messages, spec) for messages in conversations(name))
                found[name] = await asyncio.gather(*asked)
        finally:
            engine.close()
        return found

    return asyncio.run(answers())


@pytest.mark.parametrize("method", ["score_logit", "yes_no_logit", "score_logit_cot"])
def test_engines_agree_in_float32(transformers_engine, vllm_answers, method):
    parse = METHODS[method].parse
    ours = [parse(answer) for answer in ask(transformers_engine, method)]
    theirs = [parse(answer) for answer in vllm_answers[method]]
    assert len(ours) == len(theirs) == NUM_EDITS
    for one, other in zip(ours, theirs, strict=True):
        assert one.raw_score == pytest.approx(other.raw_score, abs=1e-3)
        assert one.distribution == pytest.approx(other.distribution, abs=1e-3)
        assert one.score_mass == pytest.approx(other.score_mass, abs=1e-3)
    assert max(score.raw_score for score in ours) - min(score.raw_score for score in ours) > 0.1


@pytest.mark.parametrize("method", ["score_sampling", "score_sampling_cot"])
def test_both_engines_answer_sampling_methods(transformers_engine, vllm_answers, method):
    for answers in (ask(transformers_engine, method), vllm_answers[method]):
        assert all(answer.token_ids and len(answer.pieces) == len(answer.token_ids) for answer in answers)
        assert len({answer.text for answer in answers}) > NUM_EDITS // 2


async def generate_all(engine: Engine, asked: list[Messages]) -> list[Answer | BaseException]:
    spec = METHODS["score_logit"].spec
    answers = (engine.generate(messages, spec) for messages in asked)
    found: list[Answer | BaseException] = await asyncio.gather(*answers, return_exceptions=True)
    return found


def test_one_bad_conversation_fails_alone(transformers_engine):
    good = conversations("score_logit")[:7]
    long = METHODS["score_logit"].build_messages(replace(edits()[0], instruction="long " * 2000))
    found = asyncio.run(generate_all(transformers_engine, [*good[:3], long, *good[3:]]))
    assert isinstance(found[3], EngineError)
    assert "tokens; this model reads 1024" in str(found[3])
    alone = asyncio.run(generate_all(transformers_engine, good))
    for one, other in zip([*found[:3], *found[4:]], alone, strict=True):
        assert isinstance(one, Answer)
        assert isinstance(other, Answer)
        assert one.label_logprobs[0] == pytest.approx(other.label_logprobs[0], abs=1e-4)


def test_a_cancelled_call_does_not_disturb_the_others(transformers_engine):
    async def cancel_one() -> list[Answer | BaseException]:
        spec = METHODS["score_logit"].spec
        tasks = [
            asyncio.create_task(transformers_engine.generate(messages, spec))
            for messages in conversations("score_logit")
        ]
        await asyncio.sleep(0.005)
        tasks[-1].cancel()
        answers: list[Answer | BaseException] = await asyncio.gather(*tasks, return_exceptions=True)
        return answers

    found = asyncio.run(cancel_one())
    assert all(isinstance(answer, Answer) for answer in found[:-1])


def test_a_closed_engine_answers_with_an_error(tiny_judge):
    engine = build_engine("transformers", EngineOptions(model=str(tiny_judge)))
    assert engine.healthy()
    engine.close()
    assert not engine.healthy()
    (found,) = asyncio.run(generate_all(engine, conversations("score_logit")[:1]))
    assert isinstance(found, EngineError)
