"""`score_logit`, the paper's method: the expected score under one token's distribution over 0..5 (Eq. 10).

Appendix C asks for `"Score": [[rating]]`, so the answer is forced to begin with `"Score": [[` and the judge's first own
token is the rating. `score_logit_direct` asks for the number alone, in our words, and forces nothing.
"""

from __future__ import annotations

from edit_r1.reward_service.methods.answers import read_expectation
from edit_r1.reward_service.methods.base import SCORE_LABELS, SCORE_VALUES, Method, Templates, first
from edit_r1.reward_service.methods.templates import asking
from edit_r1.reward_service.types import Answer, SamplingSpec, Score

SPEC = SamplingSpec(labels=SCORE_LABELS)


def parse(answer: Answer) -> Score:
    """Read the distribution at the judge's first own token."""
    return read_expectation(answer, 0, SCORE_LABELS, SCORE_VALUES)


def method(template: Templates) -> Method:
    """The method with the paper's wording."""
    return _method("score_logit", "score", template, "in the paper's wording: the answer begins with its `Score` field")


def direct(template: Templates) -> Method:
    """The method with a wording that asks for the number alone."""
    return _method("score_logit_direct", "score_direct", template, "where the judge is asked for the number alone")


def _method(name: str, prompt: str, template: Templates, wording: str) -> Method:
    answer_prefix = template.answer_prefix(prompt)
    return Method(
        name=name,
        description=f"Expected score under the probabilities of 0..5 at the judge's first token, {wording}.",
        ask=asking(template(prompt), SPEC, answer_prefix),
        read=first(parse),
        raw_score_min=0.0,
        raw_score_max=5.0,
        at_first_token=True,
        answer_prefix=answer_prefix,
        labels=SCORE_LABELS,
    )
