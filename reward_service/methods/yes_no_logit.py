"""`yes_no_logit`: the probability of Yes versus No at the first generated position (Appendix B.1, Y/N_C)."""

from __future__ import annotations

from edit_r1.reward_service.methods.answers import read_expectation
from edit_r1.reward_service.methods.base import Method, Templates, first
from edit_r1.reward_service.methods.templates import asking
from edit_r1.reward_service.types import Answer, SamplingSpec, Score

LABELS = ("Yes", "No")
VALUES = (1.0, 0.0)
SPEC = SamplingSpec(labels=LABELS)


def parse(answer: Answer) -> Score:
    """Read p(Yes) at the first generated position."""
    return read_expectation(answer, 0, LABELS, VALUES)


def method(template: Templates) -> Method:
    """The method, with these base prompts."""
    return Method(
        name="yes_no_logit",
        description="Probability of the token Yes versus No at the first generated position.",
        ask=asking(template("yes_no"), SPEC),
        read=first(parse),
        raw_score_min=0.0,
        raw_score_max=1.0,
        labels=LABELS,
    )
