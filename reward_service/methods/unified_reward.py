"""`unified_reward`: a pretrained UnifiedReward model with its own format, the line `Final Score: x`, x in 1..5.

The point-scoring model for generated images takes one image and one text: the edited image and the instruction.

`unified_reward_edit`: a UnifiedReward-Edit model, which rates an edit in two answers, each JSON with two numbers from 0
to 25: success and restraint from original and edit, naturalness and flawlessness from the edit alone. Its authors
publish no combination of the four; its training data come from EditScore, whose combination is used.
"""

from __future__ import annotations

import re

from edit_r1.reward_service.methods import editscore
from edit_r1.reward_service.methods.answers import quoted
from edit_r1.reward_service.methods.base import Method, Templates, first
from edit_r1.reward_service.methods.templates import conversation, fill_brief
from edit_r1.reward_service.types import Answer, Edit, Question, SamplingSpec, Score
from edit_r1.shared.errors import UnparsableAnswerError

LOWEST, HIGHEST = 1.0, 5.0
SPEC = SamplingSpec(max_tokens=512)
_FINAL = re.compile(r"Final Score\W*(\d+(?:\.\d+)?)", re.IGNORECASE)


def parse(answer: Answer) -> Score:
    """The last final score stated in the answer."""
    found = _FINAL.findall(answer.text)
    if not found:
        raise UnparsableAnswerError(f"no `Final Score:` in the judge's answer {quoted(answer.text)}")
    score = float(found[-1])
    if not LOWEST <= score <= HIGHEST:
        raise UnparsableAnswerError(f"final score {score:g} is not in {LOWEST:g}..{HIGHEST:g}")
    return Score(score, reasoning=_FINAL.split(answer.text)[0].strip())


def method(template: Templates) -> Method:
    """The method, with these base prompts."""
    text = template("unified_reward")

    def ask(edit: Edit) -> tuple[Question, ...]:
        return (Question(conversation((edit.candidate,), fill_brief(text, edit.brief)), SPEC),)

    return Method(
        name="unified_reward",
        description="A UnifiedReward model's own answer, `Final Score: 1..5`, for edited image and instruction.",
        ask=ask,
        read=first(parse),
        raw_score_min=LOWEST,
        raw_score_max=HIGHEST,
        sampled=True,
        temperature=SPEC.temperature,
        reasoning=True,
        published_at="UnifiedReward (github.com/CodeGoat24/UnifiedReward, its point score for image generation)",
    )


def edit(template: Templates) -> Method:
    """The method for the models that see original and edit, with these base prompts."""
    following, quality = template("unified_reward_edit_following"), template("unified_reward_edit_quality")
    return Method(
        name="unified_reward_edit",
        description="A UnifiedReward-Edit model's four ratings of an edit (0..25 in JSON), combined as in `editscore`.",
        ask=editscore.asking_twice(following, quality, SPEC),
        read=editscore.read,
        raw_score_min=0.0,
        raw_score_max=editscore.RANGE,
        parts=editscore.PARTS,
        sampled=True,
        temperature=SPEC.temperature,
        reasoning=True,
        published_at="UnifiedReward (github.com/CodeGoat24/UnifiedReward, UnifiedReward-Edit/edit_pointwise_*.py)",
    )
