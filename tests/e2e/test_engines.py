"""Both engines read the embedded judge the same way: 50 edits, float32, to 1e-3; and what an engine must bear."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reward_service.engines.base import Engine, EngineName, EngineOptions, build_engine
from reward_service.methods import METHODS
from reward_service.methods.base import SCORE_LABELS
from reward_service.passes import answer_to_the_end
from reward_service.types import Answer, Brief, Edit, JudgeImage, Messages, Question, SamplingSpec, Score
from shared.errors import EngineError
from tests.support.serving import picture
from worlds.shapes.judge_table import corruption_set
from worlds.shapes.scenes import Pixels, render, to_image

NUM_EDITS = 50
SPEC = SamplingSpec(labels=SCORE_LABELS)
COMPARED = ("score_logit", "yes_no_logit", "score_logit_cot", "score_sampling", "score_sampling_cot")
Ask = Callable[[str], list[Answer]]


def edits() -> list[Edit]:
    """Sources and candidates of several sizes, several instructions."""
    return [
        Edit(
            Brief(
                f"change the {('red', 'green', 'blue')[i % 3]} circle to yellow", "None", "default", (image(i // 5),)
            ),
            image(100 + i, side=(32, 48, 64)[i % 3]),
        )
        for i in range(NUM_EDITS)
    ]


def image(seed: int, side: int = 32) -> JudgeImage:
    return JudgeImage(picture(seed, side), f"{seed}-{side}")


def conversations(method: str) -> list[Messages]:
    return [METHODS[method].ask(edit)[0].messages for edit in edits()]


def shapes_edits() -> list[Edit]:
    """Held-out edits of the embedded world, right, wrong and damaged."""
    held_out = corruption_set(NUM_EDITS // 5, 5)
    return [
        Edit(Brief(task.instruction, "None", task.task, (_shown(render(task.source)),)), _shown(edited))
        for task, edits in zip(held_out.tasks, held_out.edits, strict=True)
        for edited in edits
    ]


def _shown(pixels: Pixels) -> JudgeImage:
    return JudgeImage(to_image(pixels), hashlib.sha256(pixels.tobytes()).hexdigest())


async def ask(engine: Engine, method: str) -> list[Answer]:
    """One answer an edit, all asked at once."""
    asked = [METHODS[method].ask(edit)[0] for edit in shapes_edits()]
    short = [Question(one.messages, replace(one.spec, max_tokens=min(one.spec.max_tokens, 64))) for one in asked]
    return await asyncio.gather(*(answer_to_the_end(engine, question) for question in short))


async def ask_every_method(engine_name: EngineName, judge: Path) -> dict[str, list[Answer]]:
    engine = await asyncio.to_thread(build_engine, engine_name, EngineOptions(model=str(judge)))
    try:
        return {name: await ask(engine, name) for name in COMPARED}
    finally:
        engine.close()


@pytest.fixture(scope="module")
def transformers_answers(shapes_dir: Path) -> dict[str, list[Answer]]:
    return asyncio.run(ask_every_method("transformers", shapes_dir / "judge"))


@pytest.fixture(scope="module")
def vllm_answers(shapes_dir: Path) -> dict[str, list[Answer]]:
    """vLLM's answers to every method; its process ends before the others' tests begin."""
    return asyncio.run(ask_every_method("vllm", shapes_dir / "judge"))


@pytest.fixture(scope="module")
def transformers_engine(tiny_judge: Path) -> Iterator[Engine]:
    engine = build_engine("transformers", EngineOptions(model=str(tiny_judge)))
    yield engine
    engine.close()


@pytest.mark.parametrize("method", ["score_logit", "yes_no_logit", "score_logit_cot"])
def test_engines_agree_in_float32(transformers_answers, vllm_answers, method):
    ours = read(method, transformers_answers[method])
    theirs = read(method, vllm_answers[method])
    assert len(ours) == len(theirs) == NUM_EDITS
    for one, other in zip(ours, theirs, strict=True):
        assert one.raw_score == pytest.approx(other.raw_score, abs=1e-3)
        assert one.distribution == pytest.approx(other.distribution, abs=1e-3)
        assert one.score_mass == pytest.approx(other.score_mass, abs=1e-3)
    assert max(score.raw_score for score in ours) - min(score.raw_score for score in ours) > 0.5


@pytest.mark.parametrize("method", ["score_sampling", "score_sampling_cot"])
def test_both_engines_answer_sampling_methods(transformers_answers, vllm_answers, method):
    for answers in (transformers_answers[method], vllm_answers[method]):
        assert all(answer.token_ids and len(answer.pieces) == len(answer.token_ids) for answer in answers)
        scores = {score.raw_score for score in read(method, answers)}
        assert len(scores) > 2


def read(method: str, answers: list[Answer]) -> list[Score]:
    return [METHODS[method].read(edit, [answer]) for edit, answer in zip(shapes_edits(), answers, strict=True)]


async def generate_all(engine: Engine, asked: list[Messages]) -> list[Answer | BaseException]:
    answers = (engine.generate(messages, SPEC) for messages in asked)
    found: list[Answer | BaseException] = await asyncio.gather(*answers, return_exceptions=True)
    return found


def test_one_bad_conversation_fails_alone(transformers_engine):
    good = conversations("score_logit")[:7]
    edit = edits()[0]
    long = METHODS["score_logit"].ask(replace(edit, brief=replace(edit.brief, instruction="long " * 5000)))[0].messages
    found = asyncio.run(generate_all(transformers_engine, [*good[:3], long, *good[3:]]))
    assert isinstance(found[3], EngineError)
    assert "tokens; this model reads 4096" in str(found[3])
    alone = asyncio.run(generate_all(transformers_engine, good))
    for one, other in zip([*found[:3], *found[4:]], alone, strict=True):
        assert isinstance(one, Answer)
        assert isinstance(other, Answer)
        assert one.label_logprobs[0] == pytest.approx(other.label_logprobs[0], abs=1e-4)


def test_a_cancelled_call_does_not_disturb_the_others(transformers_engine):
    async def cancel_one() -> list[Answer | BaseException]:
        tasks = [
            asyncio.create_task(transformers_engine.generate(messages, SPEC))
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
