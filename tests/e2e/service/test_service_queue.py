"""A full queue responds with 429 at once, the client retries, and every group gets its scores."""

import asyncio
from pathlib import Path

import httpx
import pytest

from edit_r1.shared.client import RewardClient
from edit_r1.shared.schemas import EditGroup
from tests.support.serving import png, reward_service

pytestmark = pytest.mark.anyio

GROUP = EditGroup(
    instruction="x", sources=(png(0),), candidates=tuple(png(i) for i in range(10)), method="score_logit_cot"
)


async def test_a_full_queue_is_said_and_waited_for(tiny_judge: Path):
    with reward_service(tiny_judge, max_queued_candidates=10, max_reasoning_tokens=64) as url:
        async with RewardClient(url) as client:
            found = await asyncio.gather(*(client.score(GROUP) for _ in range(3)))
        assert all(result.status == "ok" for scores in found for result in scores.results)
        assert 'refusals_total{code="queue_full"}' in httpx.get(f"{url}/metrics").text
