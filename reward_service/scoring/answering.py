"""One answer of the judge, complete: past its thoughts, and with a score where its method reads one."""

from __future__ import annotations

import math
from dataclasses import replace

from edit_r1.reward_service.engines.base import Engine
from edit_r1.reward_service.methods.answers import closing_text, score_position
from edit_r1.reward_service.methods.templates import conversation
from edit_r1.reward_service.methods.thinking import find_thoughts, left_open
from edit_r1.reward_service.types import Answer, Question
from edit_r1.shared.errors import UnparsableAnswerError


def thoughts_end(engine: Engine) -> str | None:
    """The text that ends the thoughts which the judge's prompts begin; None if they begin none."""
    return left_open(engine.chat.text(conversation((), ".")))


async def answer_to_the_end(engine: Engine, question: Question) -> Answer:
    """One answer without the judge's thoughts; if it lacks the score after its marker, it is continued from the marker.

    The continuation's prefix is token ids: those of the answer so far and of the marker; one more position is generated
    after it. Returns the complete answer, marked `closed`, with that position as its last.

    Raises:
        EngineError: there is no answer.
        UnparsableAnswerError: the judge was still thinking at its limit, and the method has no marker to go on from.

    """
    spec = question.spec
    whole = await engine.generate(question.messages, spec)
    if spec.max_tokens == 1:
        return whole
    thoughts = find_thoughts(whole.pieces, thoughts_end(engine))
    if thoughts.missing_end and spec.score_marker is None:
        raise UnparsableAnswerError(
            f"the judge was still thinking after {len(whole.token_ids)} tokens; the limit is max_reasoning_tokens + "
            f"max_thinking_tokens"
        )
    answer = _after(engine, whole, thoughts.num_tokens)
    if spec.score_marker is None or score_position(answer.pieces, spec.score_marker, spec.labels) is not None:
        return answer
    if not engine.can_continue:
        return answer
    if answer.num_reported is not None:
        return await _continued_as_text(engine, question, answer, spec.score_marker)
    ends = thoughts.missing_end
    return await _continued(
        engine,
        question,
        whole,
        f"{ends}\n\n{spec.score_marker}" if ends else closing_text(answer.text, spec.score_marker),
    )


async def _continued(engine: Engine, question: Question, whole: Answer, text: str) -> Answer:
    """The answer with a text appended, and one more position after it."""
    spec, chat = question.spec, engine.chat
    # Drop control tokens from what is fed back: an end of turn, or a placeholder without an image.
    kept = [i for i, token in enumerate(whole.token_ids) if token not in chat.control_ids]
    closing = chat.encode(text)
    prefix = (*(whole.token_ids[i] for i in kept), *closing)
    last = await engine.generate(
        question.messages, replace(spec, max_tokens=1, temperature=0.0, prefix_ids=(*spec.prefix_ids, *prefix))
    )
    token_ids = prefix + last.token_ids
    # Tokens that were not generated have no probabilities.
    unread = [(math.nan,) * len(spec.labels)] * len(closing)
    return Answer(
        text=chat.decode(token_ids),
        token_ids=token_ids,
        pieces=chat.pieces(token_ids),
        label_logprobs=(*(whole.label_logprobs[i] for i in kept), *unread, *last.label_logprobs),
        finished=False,
        closed=True,
        queue_seconds=whole.queue_seconds + last.queue_seconds,
    )


async def _continued_as_text(engine: Engine, question: Question, answer: Answer, marker: str) -> Answer:
    """The same for an API, which has no token ids: it is continued by text."""
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


def _after(engine: Engine, whole: Answer, start: int) -> Answer:
    """The answer from its token `start` on; those before it become its thoughts."""
    if start == 0:
        return whole
    return replace(
        whole,
        text=engine.chat.decode(whole.token_ids[start:]),
        token_ids=whole.token_ids[start:],
        pieces=whole.pieces[start:],
        label_logprobs=whole.label_logprobs[start:],
        thinking=engine.chat.decode(whole.token_ids[:start]).strip(),
        num_thought_tokens=start,
    )
