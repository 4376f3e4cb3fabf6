"""`editscore`: two questions answered in JSON on a scale of 25, then minimum and geometric mean (arXiv:2509.23909).

The first question shows originals and edit and asks about following and preservation; the second shows only the edit
and asks about naturalness and cleanness. SC = min(first), PQ = min(second), raw score = sqrt(SC * PQ). Answers are
sampled; `num_passes` is the number of passes whose raw scores are averaged. Intended for a base model with a LoRA
adapter (`--adapters`), which should bring the questions it was trained on; the built-in ones are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edit_r1.reward_service.methods.answers import parse_numbers
from edit_r1.reward_service.methods.base import Ask, Method, Templates
from edit_r1.reward_service.methods.templates import before_and_after, conversation, fill_brief
from edit_r1.reward_service.types import Answer, Edit, Question, SamplingSpec, Score

RANGE = 25.0
PARTS = ("instruction_following", "preservation", "perceptual_quality")
SPEC = SamplingSpec(max_tokens=512, temperature=0.7, top_p=0.9, top_k=20)
_MAX_TRIES = 3


def read(_edit: Edit, answers: Sequence[Answer]) -> Score:
    """Combines the four sub-scores."""
    following, quality = (parse_numbers(answer.text, "score", 2, 0.0, RANGE) for answer in answers)
    perceptual = min(quality.values)
    parts = zip(PARTS, (*following.values, perceptual), strict=True)
    return Score(
        raw_score=math.sqrt(min(following.values) * perceptual),
        reasoning="\n".join(filter(None, (following.reasoning, quality.reasoning))),
        parts={name: value / RANGE for name, value in parts},
    )


def asking_twice(following: str, quality: str, spec: SamplingSpec) -> Ask:
    """An `ask` function with a question about originals and edit, and one about the edit alone."""

    def ask(edit: Edit) -> tuple[Question, ...]:
        return (
            Question(conversation(before_and_after(edit), fill_brief(following, edit.brief)), spec),
            Question(conversation((edit.candidate,), fill_brief(quality, edit.brief)), spec),
        )

    return ask


def method(template: Templates) -> Method:
    """The method, with these base prompts."""
    return Method(
        name="editscore",
        description="Two questions (following, preservation; quality) scored 0..25 in JSON; minimum, geometric mean.",
        ask=asking_twice(template("editscore_following"), template("editscore_quality"), SPEC),
        read=read,
        raw_score_min=0.0,
        raw_score_max=RANGE,
        parts=PARTS,
        sampled=True,
        temperature=SPEC.temperature,
        reasoning=True,
        max_tries=_MAX_TRIES,
        published_at="EditScore (github.com/VectorSpaceLab/EditScore, editscore/vie_prompts.py)",
    )
