"""Groups for a client to send, one per source, and their scores."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from edit_r1.shared.client import RewardClient
from edit_r1.shared.schemas import CandidateScore, EditGroup
from tests.support.serving import png


def group(source: int, num_candidates: int = 3) -> EditGroup:
    """A group with candidates unique to its source."""
    candidates = tuple(png(1000 + source * 10 + i) for i in range(num_candidates))
    return EditGroup(instruction="make it blue", sources=(png(source),), candidates=candidates)


async def scores(client: RewardClient, groups: Sequence[EditGroup]) -> list[list[float]]:
    """Scores of all groups, requested concurrently; candidates without a score are left out."""
    answers = await asyncio.gather(*(client.score(one) for one in groups))
    return [[r.score for r in answer.results if isinstance(r, CandidateScore)] for answer in answers]
