"""How the request and the settings change a method's questions on their way to the engine."""

import asyncio
from typing import cast

import pytest
from PIL import Image

from edit_r1.reward_service.engines.base import Engine
from edit_r1.reward_service.methods import METHODS
from edit_r1.reward_service.scoring.self_ensemble import PassOptions, score_edit
from edit_r1.reward_service.types import Answer, Brief, Edit, JudgeImage, Messages, Principle, SamplingSpec
from edit_r1.shared.errors import EngineError

REASONING = {
    "score_sampling_cot": 256,
    "editscore": 512,
    "unified_reward": 512,
    "unified_reward_edit": 512,
    "firm_edit": 256,
    "verifier_cot": 1024,
}
PICTURES = [JudgeImage(Image.new("RGB", (4, 4)), name) for name in ("source", "edited")]
EDIT = Edit(Brief("make it red", "None", "adjust", (PICTURES[0],)), PICTURES[1], (Principle("Is it red?", "follow"),))


class Letters:
    """A chat whose tokens are characters."""

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))

    def text(self, _messages: Messages) -> str:
        return "assistant\n"


class Recorder:
    """An engine that records its questions and fails."""

    def __init__(self) -> None:
        self.asked: list[SamplingSpec] = []
        self.chat = Letters()

    async def generate(self, messages: Messages, spec: SamplingSpec) -> Answer:  # noqa: ARG002 - an engine's
        self.asked.append(spec)
        raise EngineError("no judge")


def asked(method: str, limit: int | None) -> list[SamplingSpec]:
    """The options of each question."""
    engine, options = Recorder(), PassOptions(1, seed=0, temperature=None, max_reasoning_tokens=limit)
    with pytest.raises(EngineError, match="no judge"):
        asyncio.run(score_edit(cast("Engine", engine), METHODS[method], EDIT, options))
    return engine.asked


def lengths(method: str, limit: int | None) -> set[int]:
    """The maximum number of tokens of each answer."""
    return {spec.max_tokens for spec in asked(method, limit)}


@pytest.mark.parametrize("method", REASONING)
def test_what_reasons_may_write_as_much_as_its_format_takes_or_as_the_setting_says(method):
    assert lengths(method, None) == {REASONING[method]}
    assert lengths(method, 77) == {77}


def test_the_setting_leaves_methods_alone_that_do_not_reason():
    assert lengths("score_sampling", 77) == {16}
    assert lengths("score_logit", 77) == lengths("verifier", 77) == {1}


def test_answers_are_forced_to_begin_with_the_prefix_of_their_prompt():
    prefixes = {"score_logit": '"Score": [[', "yes_no_logit": '"Judgement": [[', "verifier": '"Judgement": [['}
    for method, prefix in prefixes.items():
        assert {spec.prefix_ids for spec in asked(method, None)} == {tuple(map(ord, prefix))}
    assert {spec.prefix_ids for spec in asked("score_logit_direct", None)} == {()}
