"""`yes_no_logit`: the probability of Yes versus No at the judge's first token (Appendix B.1, Y/N_C).

Appendix C asks for `"Judgement": [[Yes/No]]`, so the answer is forced to begin with `"Judgement": [[`.
`yes_no_logit_direct` asks for Yes or No alone, in our words, and forces nothing.
"""

from __future__ import annotations

from edit_r1.reward_service.methods.answers import read_expectation
from edit_r1.reward_service.methods.base import Method, Templates, first
from edit_r1.reward_service.methods.templates import asking
from edit_r1.reward_service.types import Answer, SamplingSpec, Score

LABELS = ("Yes", "No")
VALUES = (1.0, 0.0)
SPEC = SamplingSpec(labels=LABELS)


def parse(answer: Answer) -> Score:
    """Read p(Yes) at the judge's first own token."""
    return read_expectation(answer, 0, LABELS, VALUES)


def method(template: Templates) -> Method:
    """The method with the paper's wording."""
    return _method("yes_no_logit", "yes_no", template, "in the paper's wording: the answer begins with its field")


def direct(template: Templates) -> Method:
    """The method with a wording that asks for Yes or No alone."""
    return _method("yes_no_logit_direct", "yes_no_direct", template, "where the judge is asked for the word alone")


def _method(name: str, prompt: str, template: Templates, wording: str) -> Method:
    answer_prefix = template.answer_prefix(prompt)
    return Method(
        name=name,
        description=f"Probability of Yes versus No at the judge's first token, {wording}.",
        ask=asking(template(prompt), SPEC, answer_prefix),
        read=first(parse),
        raw_score_min=0.0,
        raw_score_max=1.0,
        at_first_token=True,
        answer_prefix=answer_prefix,
        labels=LABELS,
    )
