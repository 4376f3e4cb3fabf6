"""RewardClient with several replicas: a source stays with one, a dead one loses no work, other models are refused."""

import asyncio
from contextlib import ExitStack

import pytest

from edit_r1.shared.client import RewardClient
from edit_r1.shared.errors import RewardServiceError
from tests.support.groups import group, scores
from tests.support.serving import free_port, metric, reward_service
from tests.support.tiny_judge import save_tiny_judge

pytestmark = pytest.mark.anyio


def num_scored(url: str) -> float:
    return metric(url, "reward_candidates_total")


async def test_all_groups_of_a_source_go_to_one_replica(tiny_judge):
    with reward_service(tiny_judge) as first, reward_service(tiny_judge) as second:
        async with RewardClient([first, second]) as client:
            await client.wait_ready(30)
            await scores(client, [group(7)] * 6)
            counts = sorted([num_scored(first), num_scored(second)])
            assert counts == [0, 18]
            await scores(client, [group(source) for source in range(20)])
            assert min(num_scored(first), num_scored(second)) > 0


async def test_a_replica_that_dies_under_load_loses_nothing(tiny_judge, service_url):
    groups = [group(source) for source in range(40)]
    async with RewardClient(service_url) as client:
        expected = await scores(client, groups)
    with ExitStack() as living, reward_service(tiny_judge) as survivor:
        doomed = ExitStack()
        living.enter_context(doomed)
        victim = doomed.enter_context(reward_service(tiny_judge, drain_seconds=0))
        async with RewardClient([survivor, victim], max_in_flight=4) as client:
            await client.wait_ready(30)
            running = asyncio.create_task(scores(client, groups))
            while num_scored(victim) == 0:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(doomed.close)
            found = await running
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


async def test_a_replica_that_is_not_there_is_told_and_done_without(service_url):
    gone = f"http://127.0.0.1:{free_port()}"
    told: list[str] = []
    async with RewardClient([gone, service_url]) as client:
        await client.wait_ready(30, on_wait=told.append)
        assert told == [f"continuing without the replica at {gone}: cannot connect (nothing is listening there)"]
        assert all(await scores(client, [group(source) for source in range(4)]))


async def test_replicas_with_different_judges_are_refused(tiny_judge, tmp_path, service_url):
    with reward_service(save_tiny_judge(tmp_path / "other", seed=1)) as other:
        async with RewardClient([service_url, other]) as client:
            with pytest.raises(RewardServiceError, match=f"replicas differ in model: {service_url} has judge0"):
                await client.wait_ready(30)
