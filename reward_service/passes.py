"""The answers behind one score: which to ask for, how to bring one to its score, how to average several."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from reward_service.engines.base import Engine
from reward_service.methods.answers import closing_text, score_position
from reward_service.methods.base import Method
from reward_service.types import Answer, Messages, SamplingSpec, Score
from shared.schemas import EditGroup


def plan_passes(method: Method, group: EditGroup, digest: str, max_reasoning_tokens: int) -> list[SamplingSpec]:
    """One sampling spec a pass.

    Seeds come from the request's seed, the candidate's content (`digest`) and the pass: not from its position, so that
    a score does not depend on the other candidates or their order.
    """
    spec = method.spec
    if method.reasoning:
        spec = replace(spec, max_tokens=max_reasoning_tokens)
    if group.temperature is not None:
        spec = replace(spec, temperature=group.temperature)
    return [replace(spec, seed=_seed(group.seed, digest, i)) for i in range(group.num_passes)]


async def answer_to_the_end(engine: Engine, messages: Messages, spec: SamplingSpec) -> Answer:
    """One answer; when it must name a score after a marker and does not, it is continued from the marker.

    The continuation goes out as token ids: the answer so far and the marker's; then one more position is generated.
    What comes back is the whole, `closed`, with that position as its last.
    """
    answer = await engine.generate(messages, spec)
    if spec.score_marker is None or score_position(answer.pieces, spec.score_marker, spec.labels) is not None:
        return answer
    # Structure stays out of what is read again: an end of turn, or a placeholder without an image.
    kept = [i for i, token in enumerate(answer.token_ids) if token not in engine.chat.control_ids]
    closing = engine.chat.encode(closing_text(answer.text, spec.score_marker))
    prefix = (*(answer.token_ids[i] for i in kept), *closing)
    continuation = replace(spec, max_tokens=1, temperature=0.0, prefix_ids=prefix)
    last = await engine.generate(messages, continuation)
    token_ids = prefix + last.token_ids
    # What was not generated has no probabilities.
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


def average(scores: Sequence[Score]) -> Score:
    """The self-ensemble of several passes: mean score and mean distribution; the reasoning is the first pass's."""
    if len(scores) == 1:
        return scores[0]
    first = scores[0]
    masses = [score.score_mass for score in scores if score.score_mass is not None]
    return Score(
        raw_score=fmean(score.raw_score for score in scores),
        distribution=_mean_distribution([score.distribution for score in scores if score.distribution]),
        score_mass=fmean(masses) if masses else None,
        reasoning=first.reasoning,
        details={**first.details, "passes": [score.raw_score for score in scores]},
    )


def _mean_distribution(distributions: Sequence[dict[str, float]]) -> dict[str, float] | None:
    if not distributions:
        return None
    return {label: fmean(one[label] for one in distributions) for label in distributions[0]}


def _seed(request_seed: int, digest: str, index: int) -> int:
    """A seed in [0, 2^63)."""
    name = f"{request_seed}:{digest}:{index}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") >> 1
