"""The answers behind one score: generates them, completes those without a score, and averages several passes.

Takes an `Edit` and a method and returns its `Score`. Legend: a pass is one full set of answers about an edit; a try is
a pass repeated with other seeds because its answers could not be parsed.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from edit_r1.reward_service.engines.base import Engine
from edit_r1.reward_service.methods.base import Method
from edit_r1.reward_service.scoring.answering import answer_to_the_end
from edit_r1.reward_service.types import Answer, Edit, Question, Score
from edit_r1.shared.errors import UnparsableAnswerError


@dataclass(frozen=True)
class PassOptions:
    """A request's options for answers."""

    num_passes: int
    seed: int
    temperature: float | None
    """Temperature of written answers; None: the method's default. One-token questions are read, not sampled."""
    max_reasoning_tokens: int | None
    """Maximum number of tokens per answer in methods that reason; None: the method's default."""
    max_thinking_tokens: int = 0
    """Additional tokens per written answer, for the judge's thoughts."""


@dataclass(frozen=True)
class Scored:
    """A candidate's score and how long it waited for the engine."""

    score: Score
    queue_seconds: float
    answer_tokens: int
    """Number of tokens written by the judge, over all passes and tries."""


async def score_edit(engine: Engine, method: Method, edit: Edit, options: PassOptions) -> Scored:
    """The mean of `num_passes` passes, all asked at once.

    Raises:
        JudgeError: a pass has no score; a mean over the others would not be comparable.

    """
    passes = (_score_pass(engine, method, edit, options, number) for number in range(options.num_passes))
    scored = await asyncio.gather(*passes)
    return Scored(
        score=average([one.score for one in scored]),
        queue_seconds=fmean(one.queue_seconds for one in scored),
        answer_tokens=sum(one.answer_tokens for one in scored),
    )


async def _score_pass(engine: Engine, method: Method, edit: Edit, options: PassOptions, number: int) -> Scored:
    questions = method.ask(edit)
    written = 0
    for attempt in range(method.max_tries):
        planned = [
            _planned(forced(engine, question), method, options, _seed(options.seed, edit, number, index, attempt))
            for index, question in enumerate(questions)
        ]
        answers = await asyncio.gather(*(answer_to_the_end(engine, question) for question in planned))
        written += sum(answer.num_tokens for answer in answers)
        try:
            score = _with_thinking(method.read(edit, answers), answers)
            return Scored(score, fmean([answer.queue_seconds for answer in answers] or [0.0]), written)
        except UnparsableAnswerError as error:
            failure = _explained(error, planned, answers, engine.can_continue)
            if not any(question.spec.temperature > 0 for question in planned):
                break  # the same question gets the same answer
    raise failure


def _with_thinking(score: Score, answers: Sequence[Answer]) -> Score:
    """The score with the judge's thinking in front of its reasoning."""
    thoughts = [answer.thinking for answer in answers if answer.thinking]
    return replace(score, reasoning="\n".join(filter(None, [*thoughts, score.reasoning]))) if thoughts else score


def _explained(
    error: UnparsableAnswerError, asked: Sequence[Question], answers: Sequence[Answer], can_continue: bool
) -> UnparsableAnswerError:
    """The error, with its cause if an answer was cut off at its limit, or could not be continued to a score."""
    causes = []
    cut = [question.spec.max_tokens for question, answer in zip(asked, answers, strict=True) if not answer.finished]
    if cut and max(cut) > 1:
        limit = f"{max(cut)} tokens and any thinking"
        causes.append(f"the answer was cut off at its limit ({limit}): raise max_reasoning_tokens")
    if not can_continue and any(question.spec.score_marker for question in asked):
        causes.append("the judge's API cannot continue an answer from the score's marker")
    return UnparsableAnswerError("; ".join([str(error), *causes])) if causes else error


def average(scores: Sequence[Score]) -> Score:
    """The self-ensemble of several passes: mean score, distribution and parts; the reasoning is the first pass's."""
    if len(scores) == 1:
        return scores[0]
    first = scores[0]
    masses = [score.score_mass for score in scores if score.score_mass is not None]
    return Score(
        raw_score=fmean(score.raw_score for score in scores),
        distribution=_mean([score.distribution for score in scores if score.distribution]) or None,
        score_mass=fmean(masses) if masses else None,
        reasoning=first.reasoning,
        parts=_mean([score.parts for score in scores]),
        details={**first.details, "passes": [score.raw_score for score in scores]},
    )


def _mean(tables: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: fmean(one[name] for one in tables) for name in tables[0]} if tables else {}


def forced(engine: Engine, question: Question) -> Question:
    """The question with its answer prefix as token ids."""
    if not question.answer_prefix:
        return question
    return replace(question, spec=replace(question.spec, prefix_ids=engine.chat.encode(question.answer_prefix)))


def _planned(question: Question, method: Method, options: PassOptions, seed: int) -> Question:
    """A question with the request's and the settings' options for written answers applied."""
    spec = question.spec
    if spec.max_tokens == 1:
        return question
    if method.reasoning and options.max_reasoning_tokens is not None:
        spec = replace(spec, max_tokens=options.max_reasoning_tokens)
    spec = replace(spec, max_tokens=spec.max_tokens + options.max_thinking_tokens)
    if options.temperature is not None:
        spec = replace(spec, temperature=options.temperature)
    return replace(question, spec=replace(spec, seed=seed))


def _seed(request_seed: int, edit: Edit, *numbers: int) -> int:
    """A seed in [0, 2^63).

    Derived from the request's seed, the candidate's content and the numbers of pass, question and try, not from its
    position, so that a score does not depend on the other candidates or their order.
    """
    name = ":".join(map(str, (request_seed, edit.candidate.digest, *numbers))).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") >> 1
