"""Best of N: ranks several edits of one image by a judge's scores.

Takes sources, edits and an instruction and returns `Place`s, best first; edits without a score rank last, never as 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from edit_r1.shared.client import RewardClient
from edit_r1.shared.errors import ConfigError, RewardServiceError
from edit_r1.shared.images import encode
from edit_r1.shared.schemas import CandidateScore, EditGroup

_READY_SECONDS = 60.0


@dataclass(frozen=True)
class Place:
    """One edit in the ranking."""

    index: int
    """Position among the given edits."""
    score: float | None
    """In [0, 1]; None when there is no score."""
    told: str
    """Text to display: the score, or why there is none."""


def check_judge(url: str, api_key: str | None, method: str) -> None:
    """Raises RewardServiceUnavailable when the service is not ready, ConfigError when it does not offer the method."""

    async def known() -> tuple[str, ...]:
        async with RewardClient(url, api_key=api_key) as client:
            return (await client.wait_ready(_READY_SECONDS)).methods

    if method not in (methods := asyncio.run(known())):
        raise ConfigError(f"--method {method}: the service offers {', '.join(methods)}")


def rank(
    url: str,
    api_key: str | None,
    sources: Sequence[Image.Image],
    edits: Sequence[Image.Image],
    *,
    instruction: str,
    method: str,
    task: str | None = None,
) -> list[Place]:
    """Score the edits as one group; returns them best first, ties in the given order.

    Raises RewardServiceError when no edit got a score, and the errors of RewardClient.score.
    """

    async def score() -> list[Place]:
        group = EditGroup(
            instruction=instruction,
            task=task,
            method=method,
            sources=tuple(map(encode, sources)),
            candidates=tuple(map(encode, edits)),
        )
        async with RewardClient(url, api_key=api_key) as client:
            answer = await client.score(group)
        return [
            Place(one.index, one.score, f"{one.score:.4f}")
            if isinstance(one, CandidateScore)
            else Place(one.index, None, f"no score: {one.error.message}")
            for one in answer.results
        ]

    places = asyncio.run(score())
    if all(place.score is None for place in places):
        raise RewardServiceError(f"none of {len(places)} edits got a score; first failure: {places[0].told}")
    return sorted(places, key=lambda place: (place.score is None, -(place.score or 0.0)))
