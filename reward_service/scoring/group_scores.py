"""The scores of a group by a method that compares its candidates.

Takes the candidates of one brief and returns an outcome for each. A candidate that cannot be decoded takes no part. If
a comparison fails, the candidates it concerns are set aside, as few as possible, and the others are scored without
them, so that all scores come from complete comparisons.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from statistics import fmean

from edit_r1.reward_service.engines.base import Engine
from edit_r1.reward_service.mathematics.comparisons import largest_linked, unaffected
from edit_r1.reward_service.methods.base import GroupMethod, GroupQuestion
from edit_r1.reward_service.scoring.answering import answer_to_the_end
from edit_r1.reward_service.scoring.self_ensemble import Scored, forced
from edit_r1.reward_service.types import Answer, Brief, Edit, JudgeImage, Score
from edit_r1.shared.errors import EngineUnavailableError, ImageError, JudgeError, NotComparableError

Outcome = Scored | ImageError | JudgeError
_Read = tuple[Answer, Score]


async def score_group(
    engine: Engine,
    method: GroupMethod,
    brief: Brief,
    candidates: Sequence[JudgeImage | ImageError],
    *,
    seed: int,
    turns: asyncio.Semaphore,
) -> list[Outcome]:
    """One outcome per candidate.

    turns: limits the questions in the engine at once.
    """
    places = [place for place, image in enumerate(candidates) if isinstance(image, JudgeImage)]
    edits = [Edit(brief, image) for image in candidates if isinstance(image, JudgeImage)]
    outcomes = await _score_readable(engine, method, edits, seed, turns) if len(edits) > 1 else [_alone()] * len(edits)
    by_place = dict(zip(places, outcomes, strict=True))
    return [image if isinstance(image, ImageError) else by_place[place] for place, image in enumerate(candidates)]


async def _score_readable(
    engine: Engine, method: GroupMethod, edits: Sequence[Edit], seed: int, turns: asyncio.Semaphore
) -> list[Scored | JudgeError]:
    asked = method.ask(edits, seed)
    found = await asyncio.gather(*(_read(engine, method, one, turns) for one in asked))
    for outcome in found:
        if isinstance(outcome, EngineUnavailableError):
            return [outcome] * len(edits)
    failures = [(one.about, error) for one, error in zip(asked, found, strict=True) if isinstance(error, JudgeError)]
    left = unaffected(range(len(edits)), [about for about, _ in failures])
    linked = largest_linked(left, {one.about for one in asked if left.issuperset(one.about)})
    kept = [
        (one, outcome)
        for one, outcome in zip(asked, found, strict=True)
        if not isinstance(outcome, JudgeError) and linked.issuperset(one.about)
    ]
    scores = method.combine([one for one, _ in kept], [score for _, (_, score) in kept]) if kept else {}
    return [
        _scored(scores[index], [answer for one, (answer, _) in kept if index in one.about])
        if index in scores
        else next((error for about, error in failures if index in about), _alone())
        for index in range(len(edits))
    ]


async def _read(
    engine: Engine, method: GroupMethod, asked: GroupQuestion, turns: asyncio.Semaphore
) -> _Read | JudgeError:
    async with turns:
        try:
            answer = await answer_to_the_end(engine, forced(engine, asked.question))
            return answer, method.parse(answer)
        except JudgeError as error:
            return error


def _scored(score: Score, answers: Sequence[Answer]) -> Scored:
    """A candidate's outcome; of the tokens written about two candidates, each has half."""
    tokens = sum(answer.num_tokens for answer in answers) // 2
    return Scored(score, fmean(answer.queue_seconds for answer in answers), tokens)


def _alone() -> NotComparableError:
    return NotComparableError("no other candidate of the group is left to compare this one with")
