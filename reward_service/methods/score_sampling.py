"""`score_sampling`: the score the judge writes, parsed from its text (Eq. 9; Appendix B.1, S.D)."""

from __future__ import annotations

from edit_r1.reward_service.methods.answers import parse_score
from edit_r1.reward_service.methods.base import Method, Templates, first
from edit_r1.reward_service.methods.templates import asking
from edit_r1.reward_service.types import Answer, SamplingSpec, Score

SPEC = SamplingSpec(max_tokens=16, temperature=1.0)


def parse(answer: Answer) -> Score:
    """Parse the stated score."""
    return Score(parse_score(answer.text, 0.0, 5.0), details={"answer": answer.text})


def method(template: Templates) -> Method:
    """The method, with these base prompts."""
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
