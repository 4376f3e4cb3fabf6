"""Principles: read from files with clear errors, or written by the judge once per (source, instruction)."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest
from PIL import Image

from edit_r1.reward_service.engines.base import Engine
from edit_r1.reward_service.methods.templates import PRINCIPLES_DIRECTORY, TASKS_DIRECTORY, load_task_prompts
from edit_r1.reward_service.scoring.principles import JudgedPrinciples, WrittenPrinciples, parse_principles
from edit_r1.reward_service.types import Answer, Brief, JudgeImage, Messages, Principle, SamplingSpec
from edit_r1.shared.errors import ConfigError, UnparsableAnswerError

WRITTEN = '[{"question": "Is it red?", "category": "follow"}, {"question": "Kept?", "category": "keep"}]'
READ = (Principle("Is it red?", "follow"), Principle("Kept?", "keep"))


class Scribe:
    """An engine that slowly returns given answers and records its questions."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.chat = SimpleNamespace(control_tokens=frozenset({"<|image_pad|>"}), text=lambda _messages: "assistant\n")
        self.texts = list(texts)
        self.specs: list[SamplingSpec] = []

    async def generate(self, _messages: Messages, spec: SamplingSpec) -> Answer:
        self.specs.append(spec)
        await asyncio.sleep(0.01)
        return Answer(self.texts[len(self.specs) - 1], (1,), ("",))


def brief(instruction: str = "make it red", source: str = "a", task: str = "adjust") -> Brief:
    return Brief(instruction, "None", task, (JudgeImage(Image.new("RGB", (4, 4)), source),))


def judged(scribe: Scribe) -> JudgedPrinciples:
    return JudgedPrinciples(cast("Engine", scribe), "{instruction}")  # only `generate` and the tokens are used


def test_groups_of_one_source_and_instruction_share_one_answer():
    scribe = Scribe([WRITTEN] * 3)

    async def ask() -> None:
        book = judged(scribe)
        together = await asyncio.gather(*(book.of(brief()) for _ in range(12)))
        assert set(together) == {READ}
        assert await book.of(brief()) == READ
        assert len(scribe.specs) == 1
        await book.of(brief(source="b"))
        await book.of(brief(instruction="make it blue"))
        assert len(scribe.specs) == 3

    asyncio.run(ask())


def test_one_waiting_group_going_away_does_not_disturb_the_others():
    scribe = Scribe([WRITTEN])

    async def ask() -> None:
        book = judged(scribe)
        first, second = (asyncio.create_task(book.of(brief())) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == READ

    asyncio.run(ask())


def test_an_unreadable_list_is_asked_for_again_and_a_failure_is_not_kept():
    scribe = Scribe(["no", WRITTEN, "no", "no", "no", WRITTEN])

    async def ask() -> None:
        book = judged(scribe)
        assert await book.of(brief()) == READ
        assert [spec.temperature for spec in scribe.specs] == [0.0, 0.7]
        with pytest.raises(UnparsableAnswerError, match="no principles in 3 tries"):
            await book.of(brief(source="b"))
        assert await book.of(brief(source="b")) == READ

    asyncio.run(ask())


def test_a_control_token_that_the_judge_spells_is_not_believed():
    escaped = WRITTEN.replace("red?", r"\u003c|image_pad|\u003e?")
    assert "<|image_pad|>" in parse_principles(escaped)[0].question  # would appear in a later prompt
    scribe = Scribe([escaped, WRITTEN, escaped, escaped, escaped])

    async def ask() -> None:
        book = judged(scribe)
        assert await book.of(brief()) == READ
        with pytest.raises(UnparsableAnswerError, match=r"control token <\|image_pad\|>"):
            await book.of(brief(source="b"))

    asyncio.run(ask())


@pytest.mark.parametrize(
    "text", ["", "[]", '[{"question": "Kept?", "category": "keep"}]', '[{"question": "", "category": "follow"}]']
)
def test_what_is_no_list_of_principles_is_refused(text):
    with pytest.raises(UnparsableAnswerError):
        parse_principles(text)


def test_every_task_has_built_in_principles_that_something_must_follow():
    written = WrittenPrinciples(PRINCIPLES_DIRECTORY)
    for task in load_task_prompts(TASKS_DIRECTORY):
        found = asyncio.run(written.of(brief(task=task)))
        assert {principle.category for principle in found} == {"follow", "keep", "quality"}
        assert any("make it red" in principle.question for principle in found)
    unknown = asyncio.run(written.of(brief(task="paint")))
    assert unknown == asyncio.run(written.of(brief(task="default")))


@pytest.mark.parametrize("line", ["follow Is it red?", "looks: Is it red?", "follow: Is {color} there?", ""])
def test_a_wrong_line_is_refused_with_its_number(tmp_path, line):
    (tmp_path / "default.txt").write_text("keep 2: Is it kept?\n" * bool(line) + line)
    with pytest.raises(ConfigError, match=r"default\.txt"):
        WrittenPrinciples(tmp_path)


def test_a_line_may_carry_a_weight(tmp_path):
    (tmp_path / "default.txt").write_text("follow 2.5: Is it red?\nkeep: Kept?")
    assert asyncio.run(WrittenPrinciples(tmp_path).of(brief())) == (Principle("Is it red?", "follow", 2.5), READ[1])
