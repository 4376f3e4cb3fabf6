"""The service as a Ray Serve deployment: two CPU replicas, one of which is killed under load without lost requests."""

import asyncio
import os
import signal
from collections.abc import Iterator

import psutil
import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray's controller kills a proxy that is not up after 5 s, and two busy cores can take longer to start a process.
os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")

import ray
from ray import serve

from edit_r1.reward_service.ray_serve import ReplicaOptions, build
from edit_r1.reward_service.settings import Settings
from edit_r1.shared.client import RewardClient
from edit_r1.shared.schemas import EditGroup
from tests.support.groups import group, scores
from tests.support.serving import free_port

NUM_GROUPS = 120


@pytest.fixture(scope="module")
def url(tiny_judge, tmp_path_factory) -> Iterator[str]:
    port = free_port()
    # Logical cores: two replicas, Ray's proxy and its controller share the machine's.
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    settings = Settings(model=str(tiny_judge), engine="transformers", calibration="none", drain_seconds=1)
    serve.run(build(settings, ReplicaOptions(replicas=2)), name="judge")
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


def replicas() -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    return [one for one in found if "ServeReplica:judge" in " ".join(one.info["cmdline"] or [])]


async def ready_scores(url: str, groups: list[EditGroup]) -> list[list[float]]:
    async with RewardClient(url, max_in_flight=4) as client:
        await client.wait_ready(60)
        return await scores(client, groups)


def test_a_replica_killed_under_load_loses_nothing(url, service_url):
    groups = [group(source % 20) for source in range(NUM_GROUPS)]
    expected = asyncio.run(ready_scores(service_url, groups[:20]))

    async def under_fire() -> list[list[float]]:
        running = asyncio.create_task(ready_scores(url, groups))
        await asyncio.sleep(0.5)
        assert not running.done()
        await asyncio.to_thread(os.kill, victim.pid, signal.SIGKILL)
        return await running

    two = replicas()
    assert len(two) == 2
    victim = two[0]
    found = asyncio.run(under_fire())
    for index, one in enumerate(found):
        assert one == pytest.approx(expected[index % 20], abs=1e-5)
    assert victim.pid not in {one.pid for one in replicas()}
