"""Robustness of engines: failing neighbours, cancelled calls, being closed."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor

from edit_r1.reward_service.engines.base import Engine, EngineOptions
from edit_r1.reward_service.engines.batches import BatchBuilder
from edit_r1.reward_service.engines.chat import Chat
from edit_r1.reward_service.engines.factory import build_engine
from edit_r1.reward_service.engines.resolution import choose_resolution
from edit_r1.reward_service.methods import METHODS
from edit_r1.reward_service.methods.base import SCORE_LABELS
from edit_r1.reward_service.types import Answer, Brief, Edit, JudgeImage, Messages, SamplingSpec
from edit_r1.shared.errors import EngineError
from tests.support.serving import picture

NUM_EDITS = 50
SPEC = SamplingSpec(labels=SCORE_LABELS)


def edits() -> list[Edit]:
    """Edits with several sizes and several instructions."""
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


@pytest.fixture(scope="module")
def transformers_engine(tiny_judge: Path) -> Iterator[Engine]:
    engine = build_engine("transformers", EngineOptions(model=str(tiny_judge)))
    yield engine
    engine.close()


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
    assert "tokens; this model's limit is 4096" in str(found[3])
    alone = asyncio.run(generate_all(transformers_engine, good))
    for one, other in zip([*found[:3], *found[4:]], alone, strict=True):
        assert isinstance(one, Answer)
        assert isinstance(other, Answer)
        assert one.label_logprobs[0] == pytest.approx(other.label_logprobs[0], abs=1e-4)


def test_large_pictures_are_shown_to_the_judge_at_the_size_that_was_set(tiny_judge):
    chat = Chat(AutoProcessor.from_pretrained(tiny_judge), "tiny")
    edit = Edit(edits()[0].brief, image(0, side=64))
    (question,) = METHODS["score_logit"].ask(edit)
    widths = []
    for max_pixels in (None, 64 * 64, 32 * 32):
        resolution = choose_resolution(chat.processor.image_processor, None, max_pixels)
        (row,) = BatchBuilder(chat, torch.device("cpu"), 4096, resolution).rows([question.messages], [()])
        widths.append(row.ids.count(chat.image_token_id))
    assert widths[0] == widths[1] == 2.5 * widths[2]  # a source of 32 pixels' side, a candidate of 64


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
