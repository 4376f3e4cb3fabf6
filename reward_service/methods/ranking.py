"""`ranking`: the candidates of a group compared in pairs, by the label that the judge prefers at its first token.

Each pair is asked in both orders, so that a judge which prefers the version shown first prefers neither:
p_ij = (p(A | i, j) + p(B | j, i)) / 2. The score is the probability that a candidate is better than another one of its
group; it depends on the group, whose mean is always 0.5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from statistics import fmean

from edit_r1.reward_service.mathematics.comparisons import Pair, schedule, win_rates
from edit_r1.reward_service.methods.answers import read_expectation
from edit_r1.reward_service.methods.base import GroupMethod, GroupQuestion, Templates
from edit_r1.reward_service.methods.templates import conversation, fill_brief
from edit_r1.reward_service.types import Answer, Edit, Question, SamplingSpec, Score

NAME = "ranking"
LABELS = ("A", "B")
VALUES = (1.0, 0.0)
SPEC = SamplingSpec(labels=LABELS)
MAX_OPPONENTS = 11


def parse(answer: Answer) -> Score:
    """Read p(A), the share of the version shown first, at the judge's first own token."""
    return read_expectation(answer, 0, LABELS, VALUES)


def combine(asked: Sequence[GroupQuestion], found: Sequence[Score]) -> dict[int, Score]:
    """Each candidate's score from the pairs' p(A)."""
    shares = {(one.about[0], one.about[1]): score.raw_score for one, score in zip(asked, found, strict=True)}
    wins = {(i, j): (share + 1 - shares[j, i]) / 2 for (i, j), share in shares.items() if i < j}
    candidates = sorted({candidate for pair in wins for candidate in pair})
    rates = win_rates(candidates, wins)
    masses = {one.about: score.score_mass or 0.0 for one, score in zip(asked, found, strict=True)}
    return {
        candidate: Score(
            rates[candidate],
            score_mass=min(mass for about, mass in masses.items() if candidate in about),
            details=_details(candidate, wins, shares),
        )
        for candidate in candidates
    }


def _details(candidate: int, wins: Mapping[Pair, float], shares: Mapping[Pair, float]) -> dict[str, object]:
    """The number of a candidate's comparisons, and how far the judge prefers the version shown first in them."""
    own = [pair for pair in wins if candidate in pair]
    bias = fmean((shares[i, j] + shares[j, i]) / 2 for i, j in own) - 0.5
    return {"comparisons": len(own), "position_bias": bias}


def method(template: Templates, max_opponents: int = MAX_OPPONENTS) -> GroupMethod:
    """The method, with these base prompts.

    max_opponents: maximum number of others that each candidate is compared with.
    """
    text, answer_prefix = template(NAME), template.answer_prefix(NAME)

    def question(first: Edit, second: Edit) -> Question:
        images = (*first.brief.sources, first.candidate, second.candidate)
        return Question(conversation(images, fill_brief(text, first.brief)), SPEC, answer_prefix)

    def ask(edits: Sequence[Edit], seed: int) -> tuple[GroupQuestion, ...]:
        # In the order of their contents, so that the pairs do not depend on the candidates' order in the request.
        order = sorted(range(len(edits)), key=lambda index: edits[index].candidate.digest)
        pairs = schedule(len(edits), max_opponents, _seed(seed, [edits[index].candidate.digest for index in order]))
        shown = [(order[i], order[j]) for pair in pairs for i, j in (pair, pair[::-1])]
        return tuple(GroupQuestion(question(edits[i], edits[j]), (i, j)) for i, j in shown)

    return GroupMethod(
        name=NAME,
        description="Probability that a candidate is better than another one of its group: pairs in both orders, read "
        "at the judge's first token. Unlike all other scores, it depends on the group; at least two candidates.",
        ask=ask,
        parse=parse,
        combine=combine,
        raw_score_min=0.0,
        raw_score_max=1.0,
        at_first_token=True,
        answer_prefix=answer_prefix,
        labels=LABELS,
    )


def _seed(seed: int, digests: Sequence[str]) -> int:
    name = ":".join((str(seed), *digests)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")
