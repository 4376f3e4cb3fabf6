"""`score_sampling_cot`: the judge reasons, then writes a score, which is parsed (Appendix B.1)."""

from __future__ import annotations

from functools import partial

from reward_service.methods.answers import parse_reasoning, parse_score
from reward_service.methods.base import Method
from reward_service.methods.templates import ask, load_template
from reward_service.types import Answer, SamplingSpec, Score


def parse(answer: Answer) -> Score:
    """Parse the stated score and the reasoning before it."""
    return Score(parse_score(answer.text, 0.0, 5.0), reasoning=parse_reasoning(answer.text))


METHOD = Method(
    name="score_sampling_cot",
    description="The judge reasons first; the score 0..5 that it then writes, parsed from its text.",
    build_messages=partial(ask, load_template("score_cot")),
    parse=parse,
    spec=SamplingSpec(max_tokens=256, temperature=1.0),
    raw_score_min=0.0,
    raw_score_max=5.0,
    sampled=True,
    reasoning=True,
)
