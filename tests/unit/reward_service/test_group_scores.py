"""`ranking` with a scripted judge: exact readings, no position bias, failures that stay with their candidates."""

import asyncio
import math
from collections.abc import Mapping
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edit_r1.reward_service.engines.base import Engine
from edit_r1.reward_service.methods import load_group_methods
from edit_r1.reward_service.scoring.group_scores import score_group
from edit_r1.reward_service.scoring.self_ensemble import Scored
from edit_r1.reward_service.types import Answer, Brief, JudgeImage, Messages, SamplingSpec
from edit_r1.shared.errors import EngineDiedError, EngineError, ImageError, NotComparableError

PICTURE = Image.new("RGB", (4, 4))
BRIEF = Brief("make it red", "None", "adjust", (JudgeImage(PICTURE, "source"),))
QUALITIES = {"good": 2.0, "fair": 0.5, "poor": -1.0, "bad": -2.0}


def image(name: str) -> JudgeImage:
    return JudgeImage(PICTURE, name)


class Scripted:
    """An engine that prefers the better version, and the first one by a bias, and fails on some."""

    def __init__(self, bias: float = 0.0, failing: Mapping[str, Exception] | None = None) -> None:
        self.asked: list[tuple[str, ...]] = []
        self._bias, self._failing = bias, failing or {}
        self.chat = self

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))

    async def generate(self, messages: Messages, spec: SamplingSpec) -> Answer:
        source, first, second = (part.digest for part in messages[-1].content if isinstance(part, JudgeImage))
        assert (source, spec.labels, spec.max_tokens) == ("source", ("A", "B"), 1)
        self.asked.append((first, second))
        for name in (first, second):
            if name in self._failing:
                raise self._failing[name]
        share = 1 / (1 + math.exp(QUALITIES[second] - QUALITIES[first] - self._bias))
        return Answer("A", (1,), ("A",), ((math.log(0.8 * share), math.log(0.8 * (1 - share))),))


def scores(engine: Scripted, *candidates: JudgeImage | ImageError, opponents: int = 11):
    method = load_group_methods(max_opponents=opponents)["ranking"]

    async def run():
        return await score_group(cast("Engine", engine), method, BRIEF, candidates, seed=1, turns=asyncio.Semaphore(3))

    return asyncio.run(run())


@given(st.permutations(list(QUALITIES)), st.floats(-2, 2))
def test_each_pair_is_asked_in_both_orders_and_a_bias_cancels(names, bias):
    engine = Scripted(bias)
    found = dict(zip(names, scores(engine, *map(image, names)), strict=True))
    assert sorted(engine.asked) == sorted((a, b) for a in names for b in names if a != b)

    def share(first, second):
        return 1 / (1 + math.exp(QUALITIES[second] - QUALITIES[first] - bias))

    for name, scored in found.items():
        others = [other for other in names if other != name]
        expected = sum((share(name, other) + 1 - share(other, name)) / 2 for other in others) / 3
        assert scored.score.raw_score == pytest.approx(expected)
        assert scored.score.score_mass == pytest.approx(0.8)
        assert scored.score.details["comparisons"] == scored.answer_tokens == 3
        assert scored.score.details["position_bias"] == pytest.approx(
            sum((share(name, other) + share(other, name)) / 2 for other in others) / 3 - 0.5
        )
    assert sorted(names, key=lambda name: found[name].score.raw_score) == sorted(names, key=QUALITIES.__getitem__)


def test_a_candidate_that_fails_takes_no_part():
    unreadable = ImageError("invalid_image", "no image")
    whole = scores(Scripted(), *map(image, ("good", "fair", "poor")))
    broken = scores(
        Scripted(failing={"bad": EngineError("too long")}),
        *(image("good"), unreadable, image("fair"), image("bad"), image("poor")),
    )
    assert broken[1] is unreadable
    assert isinstance(broken[3], EngineError)
    assert [broken[i].score for i in (0, 2, 4)] == [one.score for one in whole]


def test_whoever_is_left_alone_has_no_score():
    failing = {"bad": EngineError("too long")}
    good, bad = scores(Scripted(failing=failing), image("good"), image("bad"))
    assert isinstance(good, EngineError)  # nobody knows which of the two it was
    assert isinstance(bad, EngineError)
    (alone, _) = scores(Scripted(), image("good"), ImageError("invalid_image", "no image"))
    assert isinstance(alone, NotComparableError)


def test_an_engine_that_is_gone_fails_the_whole_group():
    found = scores(Scripted(failing={"bad": EngineDiedError("gone")}), *map(image, QUALITIES))
    assert all(isinstance(one, EngineDiedError) for one in found)


def test_with_a_limit_each_candidate_meets_as_many_others_whatever_their_order():
    QUALITIES.update({f"edit {i}": i / 8 for i in range(16)})
    names = [f"edit {i}" for i in range(16)]
    engine = Scripted()
    forward = scores(engine, *map(image, names), opponents=5)
    assert len(engine.asked) == 2 * 16 * 5 / 2
    assert {one.score.details["comparisons"] for one in forward} == {5}
    backward = scores(Scripted(), *map(image, reversed(names)), opponents=5)
    values = [one.score.raw_score for one in forward if isinstance(one, Scored)]
    assert values == pytest.approx([one.score.raw_score for one in reversed(backward)])
    assert values == sorted(values)
