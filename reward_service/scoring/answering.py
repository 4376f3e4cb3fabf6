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
        thought_ids=whole.token_ids[:start],
    )
