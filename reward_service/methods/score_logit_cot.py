"""`score_logit_cot`: the judge reasons first; then the expected score at the position after its marker (Appendix B.1).

The distribution comes from the same generation as the reasoning, at the score token. If the reasoning never gets there,
the service appends the marker as token ids (`SamplingSpec.score_marker`).
"""

from __future__ import annotations

from dataclasses import replace

from edit_r1.reward_service.methods.answers import parse_reasoning, quoted, read_expectation, score_position
from edit_r1.reward_service.methods.base import SCORE_LABELS, SCORE_VALUES, Method, Templates, first
from edit_r1.reward_service.methods.templates import asking
from edit_r1.reward_service.types import Answer, SamplingSpec, Score
from edit_r1.shared.errors import UnparsableAnswerError

MARKER = '"Score": '
SPEC = SamplingSpec(max_tokens=256, labels=SCORE_LABELS, score_marker=MARKER)


def parse(answer: Answer) -> Score:
    """Read the distribution at the score token."""
    last = len(answer.pieces) - 1
    position = last if answer.closed else score_position(answer.pieces, MARKER, SCORE_LABELS)
    if position is None:
        raise UnparsableAnswerError(f"the judge's reasoning never reached {MARKER!r}: {quoted(answer.text)}")
    score = read_expectation(answer, position, SCORE_LABELS, SCORE_VALUES)
    return replace(score, reasoning=parse_reasoning(answer.text), details={**score.details, "closed": answer.closed})


def method(template: Templates) -> Method:
    """The method, with these base prompts."""
    return Method(
        name="score_logit_cot",
        description="The judge reasons first; expected score under the probabilities of 0..5 at its score token.",
        ask=asking(template("score_cot"), SPEC),
        read=first(parse),
        raw_score_min=0.0,
        raw_score_max=5.0,
        sampled=True,
        temperature=SPEC.temperature,
        reasoning=True,
        labels=SCORE_LABELS,
    )
