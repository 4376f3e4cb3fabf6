"""`score_logit`, the paper's method: the expected score under the first token's distribution over 0..5 (Eq. 10)."""

from __future__ import annotations

from edit_r1.reward_service.methods.answers import read_expectation
from edit_r1.reward_service.methods.base import SCORE_LABELS, SCORE_VALUES, Method, Templates, first
from edit_r1.reward_service.methods.templates import asking
from edit_r1.reward_service.types import Answer, SamplingSpec, Score

SPEC = SamplingSpec(labels=SCORE_LABELS)


def parse(answer: Answer) -> Score:
    """Read the distribution at the first generated position."""
    return read_expectation(answer, 0, SCORE_LABELS, SCORE_VALUES)


def method(template: Templates) -> Method:
    """The method, with these base prompts."""
    return Method(
        name="score_logit",
        description="Expected score under the probabilities of the tokens 0..5 at the first generated position.",
        ask=asking(template("score"), SPEC),
        read=first(parse),
        raw_score_min=0.0,
        raw_score_max=5.0,
        labels=SCORE_LABELS,
    )
