"""Best of N: several edits of one picture in the order in which a judge likes them.

Enters: sources, edits, an instruction. Leaves: `Place`s, the best first; an edit without a score comes
last, never as 0.
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
    """One edit in the order."""

    index: int
    """Position among the edits given."""
    score: float | None
    """In [0, 1]; None: the judge had none."""
    told: str
    """For people: the score, or why there is none."""


def check_judge(url: str, api_key: str | None, method: str) -> None:
    """Raises RewardServiceUnavailable when the service is not ready, ConfigError when it does not know the method."""

    async def known() -> tuple[str, ...]:
        async with RewardClient(url, api_key=api_key) as client:
            return (await client.wait_ready(_READY_SECONDS)).methods

    if method not in (methods := asyncio.run(known())):
        raise ConfigError(f"--method {method}: the service knows {', '.join(methods)}")


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
    """Score the edits as one group; the best first, equals in the order given.

    Raises RewardServiceError when not one edit got a score, and as RewardClient.score does.
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
        raise RewardServiceError(f"not one of {len(places)} edits got a score; the first: {places[0].told}")
    return sorted(places, key=lambda place: (place.score is None, -(place.score or 0.0)))
