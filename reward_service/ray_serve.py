"""The application as a Ray Serve deployment: several replicas behind one port, on one node or more.

    REWARD_MODEL=Qwen/Qwen2.5-VL-7B-Instruct serve run edit_r1.reward_service.ray_serve:app replicas=4 \
        gpus_per_replica=1

Settings come from `REWARD_*` variables; host and port are Ray's. A replica takes requests once its judge has passed its
self-test, and Ray replaces it if its engine fails. A replica that is removed, after an update or for lack of work, gets
no more requests and finishes those it has. Ray sends a group to any replica: if caching of sources matters (vLLM), give
`RewardClient` the URLs of separate services instead.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from ray import serve
from ray.serve import Application

from edit_r1.reward_service.app import create_app
from edit_r1.reward_service.service import Service
from edit_r1.reward_service.settings import Settings, settings_from
from edit_r1.shared.errors import ConfigError

_POLL_SECONDS = 0.1
_CLOSING_SECONDS = 10.0
"""For releasing the model after the last request."""
_TYPICAL_GROUP = 12
"""Candidates per request: the paper's group size."""
_SIZES = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
_AUTOSCALING = {"upscale_delay_s": 30.0, "downscale_delay_s": 900.0}
"""A trainer asks in bursts, and loading a judge takes minutes: keep replicas over the pause of an epoch's update."""


class ReplicaOptions(BaseModel):
    """Options that `serve run` takes as `name=value`, and a configuration file under `args`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replicas: int = Field(1, ge=1, description="Number of copies of the judge; with `max_replicas`, the minimum.")
    max_replicas: int | None = Field(
        None, ge=1, description="Maximum number of copies; Ray adds and removes them by the length of the queue."
    )
    target_requests: float | None = Field(
        None,
        gt=0,
        description="Requests per replica, waiting or being scored, above which Ray adds one; by default as many "
        "groups of 12 as fill two batches.",
    )
    autoscaling: dict[str, Any] = Field({}, description="Further fields of Ray's autoscaling configuration.")
    gpus_per_replica: float = Field(
        0.0, ge=0, description="GPUs per replica, or the part of one GPU that each of several replicas takes."
    )
    cpus_per_replica: float = Field(1.0, gt=0, description="CPU cores that Ray reserves per replica.")

    @model_validator(mode="after")
    def _in_order(self) -> ReplicaOptions:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas={self.max_replicas} is less than replicas={self.replicas}")
        if self.gpus_per_replica > 1 and not self.gpus_per_replica.is_integer():
            raise ValueError(f"gpus_per_replica={self.gpus_per_replica:g} must be a whole number, or less than 1")
        return self


@serve.ingress()
class RewardReplica:
    """One replica: the application for one judge, in a Ray process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._service: Service | None = None

    def __serve_build_asgi_app__(self) -> Any:
        """The ASGI application; Ray runs its lifespan, which starts loading the judge."""
        application = create_app(self._settings)
        self._service = application.state.service
        return application

    async def reconfigure(self, _config: dict[str, Any]) -> None:
        """Called once before the first request: wait until the judge is ready.

        Raises:
            RuntimeError: the judge cannot serve; Ray retries with another process.

        """
        assert self._service is not None  # noqa: S101 - the application is built before
        while not self._service.ready:
            self.check_health()
            await asyncio.sleep(_POLL_SECONDS)

    def check_health(self) -> None:
        """Called by Ray every few seconds; raises RuntimeError if the replica must be replaced."""
        if self._service is not None and self._service.failure:
            raise RuntimeError(self._service.failure)


def app(options: ReplicaOptions) -> Application:
    """The application for `serve run` and `serve deploy`. Raises ConfigError for invalid `REWARD_*` settings."""
    return build(settings_from([]), options)


def build(settings: Settings, options: ReplicaOptions) -> Application:
    """The application with the given settings, for `ray.serve.run`.

    Raises:
        ConfigError: the settings split the judge over another number of GPUs than a replica has.

    """
    deployment = serve.deployment(
        RewardReplica,
        name="reward",
        max_ongoing_requests=64,
        user_config={},  # so that Ray calls `reconfigure`
        ray_actor_options={"num_cpus": options.cpus_per_replica, "num_gpus": options.gpus_per_replica},
        health_check_period_s=2.0,
        health_check_timeout_s=10.0,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=settings.drain_seconds + _CLOSING_SECONDS,
        **_number(settings, options),
    )
    return deployment.bind(on_gpus(settings, options.gpus_per_replica))


def on_gpus(settings: Settings, gpus: float) -> Settings:
    """The settings of a replica that has this many GPUs: split over all of them, or with its share of one's memory.

    Raises:
        ConfigError: the settings split the judge over another number of GPUs.

    """
    used = math.prod(getattr(settings, name) for name in _SIZES)
    if 0 < gpus < 1 and used == 1:
        return settings.model_copy(update={"gpu_memory_utilization": settings.gpu_memory_utilization * gpus})
    if gpus > 1 and used == 1:
        return settings.model_copy(update={"tensor_parallel_size": int(gpus)})
    if used != max(gpus, 1):
        sizes = " x ".join(f"{name}={getattr(settings, name)}" for name in _SIZES)
        raise ConfigError(
            f"gpus_per_replica={gpus:g}, but {sizes} use {used}: set it to {used}, or leave these settings out to "
            "split the judge over all GPUs of a replica"
        )
    return settings


def _number(settings: Settings, options: ReplicaOptions) -> dict[str, Any]:
    """The deployment's arguments for the number of replicas, fixed or by the queue."""
    if options.max_replicas is None:
        return {"num_replicas": options.replicas}
    target = options.target_requests or max(1.0, 2.0 * settings.max_batch / _TYPICAL_GROUP)
    limits = {"min_replicas": options.replicas, "max_replicas": options.max_replicas}
    return {"autoscaling_config": {**_AUTOSCALING, **limits, "target_ongoing_requests": target, **options.autoscaling}}
