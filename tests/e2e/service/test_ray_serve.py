"""The service as a Ray Serve deployment on CPUs, under load: a replica is added, one is killed, all are replaced."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from pydantic import ValidationError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray's controller kills a proxy that is not up after 5 s, and two busy cores can take longer to start a process.
os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")

os.environ.setdefault("RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S", "0.5")

import ray
from ray import serve
from ray.serve.schema import ServeDeploySchema

from edit_r1.reward_service.ray_serve import ReplicaOptions, build, on_gpus
from edit_r1.reward_service.settings import Settings
from edit_r1.shared.client import RewardClient
from edit_r1.shared.errors import ConfigError
from edit_r1.shared.schemas import EditGroup
from tests.support.groups import group, scores
from tests.support.serving import free_port, wait_for

ROOT = Path(__file__).resolve().parents[3]
NUM_GROUPS = 120
AT_ONCE = {"upscale_delay_s": 0.0, "look_back_period_s": 1.0}
OPTIONS = ReplicaOptions(replicas=1, max_replicas=2, target_requests=0.05, autoscaling=AT_ONCE)


@pytest.fixture(scope="module")
def settings(tiny_judge) -> Settings:
    return Settings(model=str(tiny_judge), engine="transformers", calibration="none", drain_seconds=20)


@pytest.fixture(scope="module")
def url(settings) -> Iterator[str]:
    port = free_port()
    # Logical cores: the replicas, Ray's proxy and its controller share the machine's.
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build(settings, OPTIONS), name="judge")
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


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[list[httpx.Response | httpx.HTTPError]]:
    """Asks two at a time, again and again, without retries; yields the list of answers so far."""
    answers: list[httpx.Response | httpx.HTTPError] = []

    async def ask(client: httpx.AsyncClient) -> None:
        while True:
            try:
                answers.append(await client.get(f"{url}/v1/info"))
            except httpx.HTTPError as error:
                answers.append(error)
            await asyncio.sleep(0.05)  # leaves time for processes that start

    async with httpx.AsyncClient(timeout=60) as client:
        running = [asyncio.create_task(ask(client)) for _ in range(2)]
        try:
            yield answers
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


def test_a_queue_adds_a_replica_and_one_killed_under_load_loses_nothing(url, service_url):
    groups = [group(source % 20) for source in range(NUM_GROUPS)]
    expected = asyncio.run(ready_scores(service_url, groups[:20]))
    assert len(replicas()) == 1

    async def until_two() -> None:
        async with asking(url):
            await asyncio.to_thread(wait_for, lambda: len(replicas()) == 2, 60)

    asyncio.run(until_two())
    victim = replicas()[0]

    async def under_fire() -> list[list[float]]:
        running = asyncio.create_task(ready_scores(url, groups))
        await asyncio.sleep(0.5)
        assert not running.done()
        await asyncio.to_thread(os.kill, victim.pid, signal.SIGKILL)
        return await running

    found = asyncio.run(under_fire())
    for index, one in enumerate(found):
        assert one == pytest.approx(expected[index % 20], abs=1e-5)
    assert victim.pid not in {one.pid for one in replicas()}


def test_a_new_version_takes_over_without_a_failed_request(url, settings):
    """With a single replica, which is the hardest case: requests wait until the new one is ready."""
    before = {one.pid for one in replicas()}
    changed = build(settings.model_copy(update={"model_name": "renewed"}), ReplicaOptions(replicas=1))

    async def replaced() -> list[httpx.Response | httpx.HTTPError]:
        async with asking(url) as answers:
            await asyncio.to_thread(serve.run, changed, name="judge")
            return list(answers)

    answers = asyncio.run(replaced())
    assert [one for one in answers if not (isinstance(one, httpx.Response) and one.status_code == 200)] == []
    names = [one.json()["model"] for one in answers if isinstance(one, httpx.Response)]
    assert len(names) > 10
    assert httpx.get(f"{url}/v1/info").json()["model"] == "renewed"
    assert not before & {one.pid for one in replicas()}


def test_the_example_of_a_cluster_is_valid():
    written = yaml.safe_load((ROOT / "examples/launch/ray_serve.yaml").read_text())
    (application,) = ServeDeploySchema.model_validate(written).applications
    assert application.import_path == f"{build.__module__}:app"
    options = ReplicaOptions.model_validate(application.args)
    variables = application.runtime_env["env_vars"]
    settings = Settings(**{name.removeprefix("REWARD_").lower(): value for name, value in variables.items()})
    assert on_gpus(settings, options.gpus_per_replica) == settings
    deployment = build(settings, options)._bound_deployment
    scaling = deployment._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (2, 8)
    assert scaling.target_ongoing_requests == pytest.approx(2 * settings.max_batch / 12)


def test_a_replica_uses_the_gpus_it_has():
    settings = Settings(gpu_memory_utilization=0.8)
    assert on_gpus(settings, 0) == on_gpus(settings, 1) == settings
    assert on_gpus(settings, 0.5).gpu_memory_utilization == pytest.approx(0.4)
    assert on_gpus(settings, 4).tensor_parallel_size == 4
    split = Settings(tensor_parallel_size=2, data_parallel_size=2)
    assert on_gpus(split, 4) == split
    for gpus in (0.5, 1, 2):
        with pytest.raises(ConfigError, match=r"gpus_per_replica=.* use 4: set it to 4"):
            on_gpus(split, gpus)
    with pytest.raises(ValidationError, match=r"gpus_per_replica=1.5 must be a whole number"):
        ReplicaOptions(gpus_per_replica=1.5)
    with pytest.raises(ValidationError, match="max_replicas=1 is less than replicas=2"):
        ReplicaOptions(replicas=2, max_replicas=1)
