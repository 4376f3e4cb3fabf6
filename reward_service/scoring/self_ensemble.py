"""The answers behind one score: generates them, completes those without a score, and averages several passes.

Takes an `Edit` and a method and returns its `Score`. Legend: a pass is one full set of answers about an edit; a try is
a pass repeated with other seeds because its answers could not be parsed.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from edit_r1.reward_service.engines.base import Engine
from edit_r1.reward_service.methods.answers import closing_text, score_position
from edit_r1.reward_service.methods.base import Method
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
            _planned(question, method, options, _seed(options.seed, edit, number, index, attempt))
            for index, question in enumerate(questions)
        ]
        answers = await asyncio.gather(*(answer_to_the_end(engine, question) for question in planned))
        written += sum(answer.num_tokens for answer in answers)
        try:
            score = _with_thinking(method.read(edit, answers), answers)
            return Scored(score, fmean(answer.queue_seconds for answer in answers), written)
        except UnparsableAnswerError as error:
            failure = _explained(error, planned, answers, engine.can_continue)
            if not any(question.spec.temperature > 0 for question in planned):
                break  # the same question gets the same answer
    raise failure


async def answer_to_the_end(engine: Engine, question: Question) -> Answer:
    """One answer; if it should have a score after a marker but does not, it is continued from the marker.

    The continuation's prefix is token ids: those of the answer so far and of the marker; one more position is generated
    after it. Returns the complete answer, marked `closed`, with that position as its last.
    """
    messages, spec = question.messages, question.spec
    answer = await engine.generate(messages, spec)
    if spec.score_marker is None or score_position(answer.pieces, spec.score_marker, spec.labels) is not None:
        return answer
    if not engine.can_continue:
        return answer
    if answer.num_reported is not None:
        return await _closed_text(engine, question, answer, spec.score_marker)
    # Drop control tokens from what is fed back: an end of turn, or a placeholder without an image.
    kept = [i for i, token in enumerate(answer.token_ids) if token not in engine.chat.control_ids]
    closing = engine.chat.encode(closing_text(answer.text, spec.score_marker))
    prefix = (*(answer.token_ids[i] for i in kept), *closing)
    continuation = replace(spec, max_tokens=1, temperature=0.0, prefix_ids=prefix)
    last = await engine.generate(messages, continuation)
    token_ids = prefix + last.token_ids
    # Tokens that were not generated have no probabilities.
    unread = [(math.nan,) * len(spec.labels)] * len(closing)
    return Answer(
        text=engine.chat.decode(token_ids),
        token_ids=token_ids,
        pieces=engine.chat.pieces(token_ids),
        label_logprobs=(*(answer.label_logprobs[i] for i in kept), *unread, *last.label_logprobs),
        finished=False,
        closed=True,
        queue_seconds=answer.queue_seconds + last.queue_seconds,
    )


async def _closed_text(engine: Engine, question: Question, answer: Answer, marker: str) -> Answer:
    """`answer_to_the_end` for an API, which has no token ids: it is continued by text."""
    closing = closing_text(answer.text, marker)
    prefix = engine.chat.encode(answer.text + closing)
    continuation = replace(question.spec, max_tokens=1, temperature=0.0, prefix_ids=prefix)
    last = await engine.generate(question.messages, continuation)
    return replace(
        answer,
        text=answer.text + closing + last.text,
        pieces=(*answer.pieces, closing, *last.pieces),
        label_logprobs=(*answer.label_logprobs, (math.nan,) * len(question.spec.labels), *last.label_logprobs),
        uncovered=(*answer.uncovered, math.nan, *last.uncovered),
        finished=False,
        closed=True,
        num_reported=answer.num_tokens + last.num_tokens,
        queue_seconds=answer.queue_seconds + last.queue_seconds,
    )


def _with_thinking(score: Score, answers: Sequence[Answer]) -> Score:
    """The score with the thinking that an API returned apart from the answer, if it has no reasoning of its own."""
    thoughts = [answer.thinking for answer in answers if answer.thinking]
    return replace(score, reasoning="\n".join(thoughts)) if thoughts and not score.reasoning else score


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


def _planned(question: Question, method: Method, options: PassOptions, seed: int) -> Question:
    """A question with the request's and the settings' options for written answers applied."""
    spec = question.spec
    if spec.max_tokens == 1:
        return question
    if method.reasoning and options.max_reasoning_tokens is not None:
        spec = replace(spec, max_tokens=options.max_reasoning_tokens)
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
