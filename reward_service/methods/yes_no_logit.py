"""`yes_no_logit`: the probability of Yes against No at the first generated position (Appendix B.1, Y/N_C)."""

from __future__ import annotations

from functools import partial

from reward_service.methods.answers import read_expectation
from reward_service.methods.base import Method
from reward_service.methods.templates import ask, load_template
from reward_service.types import Answer, SamplingSpec, Score

LABELS = ("Yes", "No")
VALUES = (1.0, 0.0)


def parse(answer: Answer) -> Score:
    """Read p(Yes) at the first generated position."""
    return read_expectation(answer, 0, LABELS, VALUES)


METHOD = Method(
    name="yes_no_logit",
    description="Probability of the token Yes against No at the first generated position.",
    build_messages=partial(ask, load_template("yes_no")),
    parse=parse,
    spec=SamplingSpec(labels=LABELS),
    raw_score_min=0.0,
    raw_score_max=1.0,
)
