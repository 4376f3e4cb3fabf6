"""`firm_edit`: execution and consistency, each rated 1..5 in JSON, as by FIRM-Edit (arXiv:2603.12247).

Both questions show originals and edit; neither counts what the other judges. With E and C the ratings scaled to [0, 1],
the raw score is FIRM's consistency-modulated execution R = E (0.6 + 0.4 C).
"""

from __future__ import annotations

from collections.abc import Sequence

from edit_r1.reward_service.mathematics.aggregation import gated
from edit_r1.reward_service.mathematics.expectation import normalise
from edit_r1.reward_service.methods.answers import parse_numbers
from edit_r1.reward_service.methods.base import Method, Templates
from edit_r1.reward_service.methods.templates import before_and_after, conversation, fill_brief
from edit_r1.reward_service.types import Answer, Edit, Question, SamplingSpec, Score

LOWEST, HIGHEST = 1.0, 5.0
W1, W2 = 0.6, 0.4
PARTS = ("execution", "consistency")
SPEC = SamplingSpec(max_tokens=256)


def read(_edit: Edit, answers: Sequence[Answer]) -> Score:
    """The two ratings, scaled, and their combination."""
    found = [parse_numbers(answer.text, "score", 1, LOWEST, HIGHEST) for answer in answers]
    execution, consistency = (normalise(one.values[0], LOWEST, HIGHEST) for one in found)
    return Score(
        raw_score=gated(execution, consistency, W1, W2),
        reasoning="\n".join(filter(None, (one.reasoning for one in found))),
        parts=dict(zip(PARTS, (execution, consistency), strict=True)),
    )


def method(template: Templates) -> Method:
    """The method, with these base prompts."""
    texts = [template(f"firm_{part}") for part in PARTS]

    def ask(edit: Edit) -> tuple[Question, ...]:
        images = before_and_after(edit)
        return tuple(Question(conversation(images, fill_brief(text, edit.brief)), SPEC) for text in texts)

    return Method(
        name="firm_edit",
        description="Execution and consistency rated 1..5 in JSON, in two answers; execution gates consistency.",
        ask=ask,
        read=read,
        raw_score_min=0.0,
        raw_score_max=1.0,
        parts=PARTS,
        sampled=True,
        temperature=SPEC.temperature,
        reasoning=True,
        published_at="FIRM (github.com/VisionXLab/FIRM-Reward, editing/reward_server/prompt_template.py)",
    )
