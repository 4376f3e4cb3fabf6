"""Target answers for the judge's adapters, for the methods that review an edit point by point.

Questions use the checkpoint's own short prompts; answers have the format that the method parses
(`reward_service.methods`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edit_r1.reward_service.methods import unified_reward
from edit_r1.reward_service.methods.editscore import RANGE
from edit_r1.reward_service.types import Principle
from edit_r1.shared.schemas import Category
from edit_r1.worlds.shapes.training.judge_data import Example
from edit_r1.worlds.shapes.training.judge_words import read_scene, reasoning
from edit_r1.worlds.shapes.world.oracle import SUCCESS_THRESHOLD, made_and_kept
from edit_r1.worlds.shapes.world.scenes import CELL, CELL_ORIGINS, Pixels, render

_FREE_ERROR, _FULL_ERROR = 0.015, 0.1  # mean absolute distance to a clean scene without penalty; with full penalty


@dataclass(frozen=True)
class Facts:
    """Facts about an edit, each in [0, 1], and the judge's sentence about it."""

    made: float
    kept: float
    clean: float
    sentence: str
    overall: float
    """The oracle's score."""

    def of(self, category: Category) -> float:
        """The fact that principles of a category ask about."""
        return {"follow": self.made, "keep": self.kept, "quality": self.clean}[category]


def facts(example: Example) -> Facts:
    """The facts about one edit, computed from its pixels."""
    task, shown = example.task, read_scene(example.edited)
    made, kept = made_and_kept(render(task.source), render(task.target), example.edited)
    return Facts(made, kept, cleanness(example.edited), reasoning(task, shown), example.oracle)


def cleanness(edited: Pixels) -> float:
    """How close an image is, in its worst cell, to a clean rendering of the scene it shows; 1 is identical."""
    clean = render(read_scene(edited))
    error = np.abs(edited.astype(np.float32) - clean).mean(-1) / 255
    worst = max(float(error[y : y + CELL, x : x + CELL].mean()) for x, y in CELL_ORIGINS)
    return 1 - float(np.clip((worst - _FREE_ERROR) / (_FULL_ERROR - _FREE_ERROR), 0, 1))


Say = Callable[[Facts, float], str]
"""(facts, random number in [0, 1)) -> the judge's answer to one question."""


def answers(method: str, principles: Sequence[Principle]) -> tuple[Say, ...]:
    """Answer functions for each question of a method, in the method's order."""
    if method == "verifier":
        return tuple(_say_whether(principle.category) for principle in principles)
    if method == "verifier_cot":
        return (lambda facts, _draw: _checked(facts, principles),)
    if method == "editscore":
        return (lambda facts, _draw: _rated(facts.sentence, facts.made, facts.kept), _rate_looks)
    if method == "unified_reward":
        return (lambda facts, _draw: _final(facts.made * facts.kept),)
    if method == "score_logit_direct":
        return (_say_score,)
    if method == "yes_no_logit_direct":
        return (lambda facts, _draw: "Yes" if facts.overall >= SUCCESS_THRESHOLD else "No",)
    raise ValueError(f"no answers for the method {method!r}")


def _say_whether(category: Category) -> Say:
    """`Yes` with the probability of the fact, so that the judge learns this probability."""
    return lambda facts, draw: "Yes" if draw < facts.of(category) else "No"


def _say_score(facts: Facts, draw: float) -> str:
    """One of the two digits around 5 x the oracle's score, so that the judge learns this expectation."""
    scaled = 5 * facts.overall
    lower = min(int(scaled), 4)
    return str(lower + (draw < scaled - lower))


def _checked(facts: Facts, principles: Sequence[Principle]) -> str:
    wish, sight, rest = facts.sentence.split(", ")
    seen = {"follow": f"{wish}, {sight}", "keep": rest, "quality": sight}
    entries = [
        {"point": number, "seen": seen[principle.category], "holds": int(facts.of(principle.category) > 0.5)}
        for number, principle in enumerate(principles, 1)
    ]
    return json.dumps(entries)


def _rated(sentence: str, first: float, second: float) -> str:
    return json.dumps({"reasoning": sentence, "score": [round(RANGE * first), round(RANGE * second)]})


def _rate_looks(facts: Facts, _draw: float) -> str:
    return _rated("", facts.clean, facts.clean)


def _final(share: float) -> str:
    lowest, highest = unified_reward.LOWEST, unified_reward.HIGHEST
    return f"Final Score: {lowest + (highest - lowest) * share:.1f}"
