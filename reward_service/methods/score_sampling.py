"""`score_sampling`, `score_sampling_cot`: the score the judge writes, at once or after reasoning, parsed from its text.

Eq. 9; Appendix B.1, S.D.
"""

from __future__ import annotations

from edit_r1.reward_service.methods.answers import parse_reasoning, parse_score
from edit_r1.reward_service.methods.base import Method, Templates, first
from edit_r1.reward_service.methods.templates import asking
from edit_r1.reward_service.types import Answer, SamplingSpec, Score

SPEC = SamplingSpec(max_tokens=16, temperature=1.0)
REASONING_SPEC = SamplingSpec(max_tokens=256, temperature=1.0)


def parse(answer: Answer) -> Score:
    """Parse the stated score."""
    return Score(parse_score(answer.text, 0.0, 5.0), details={"answer": answer.text})


def parse_reasoned(answer: Answer) -> Score:
    """Parse the stated score and the reasoning before it."""
    return Score(parse_score(answer.text, 0.0, 5.0), reasoning=parse_reasoning(answer.text))


def method(template: Templates) -> Method:
    """The method that asks for the score at once."""
    return Method(
        name="score_sampling",
        description="The score 0..5 the judge writes, parsed from its text.",
        ask=asking(template("score"), SPEC),
        read=first(parse),
        raw_score_min=0.0,
        raw_score_max=5.0,
        sampled=True,
        temperature=SPEC.temperature,
    )


def reasoned(template: Templates) -> Method:
    """The method that asks for reasoning first."""
    return Method(
        name="score_sampling_cot",
        description="The judge reasons first, then writes a score 0..5, which is parsed from its text.",
        ask=asking(template("score_cot"), REASONING_SPEC),
        read=first(parse_reasoned),
        raw_score_min=0.0,
        raw_score_max=5.0,
        sampled=True,
        temperature=REASONING_SPEC.temperature,
        reasoning=True,
    )
