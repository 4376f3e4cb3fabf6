"""The application as a Ray Serve deployment: several replicas behind one port, on one node or more.

    REWARD_MODEL=Qwen/Qwen2.5-VL-7B-Instruct serve run edit_r1.reward_service.ray_serve:app replicas=4 \
        gpus_per_replica=1

Settings come from `REWARD_*` variables; host and port are Ray's. A replica takes requests once its judge has passed its
self-test, and Ray replaces it if its engine fails. Ray sends a group to any replica: if caching of sources matters
(vLLM), give `RewardClient` the URLs of separate services instead.
"""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application

from edit_r1.reward_service.app import create_app
from edit_r1.reward_service.service import Service
from edit_r1.reward_service.settings import Settings, settings_from

_POLL_SECONDS = 0.1


class ReplicaOptions(BaseModel):
    """Options that `serve run` takes as `name=value`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replicas: int = Field(1, ge=1, description="Number of copies of the judge.")
    gpus_per_replica: float = Field(0.0, ge=0, description="GPUs per replica; its tensor parallel size.")
    cpus_per_replica: float = Field(1.0, gt=0, description="CPU cores that Ray reserves per replica.")


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
    """The application for `serve run`. Raises ConfigError for invalid `REWARD_*` settings."""
    return build(settings_from([]), options)


def build(settings: Settings, options: ReplicaOptions) -> Application:
    """The application with the given settings, for `ray.serve.run`."""
    deployment = serve.deployment(
        RewardReplica,
        name="reward",
        num_replicas=options.replicas,
        max_ongoing_requests=64,
        user_config={},  # so that Ray calls `reconfigure`
        ray_actor_options={"num_cpus": options.cpus_per_replica, "num_gpus": options.gpus_per_replica},
        health_check_period_s=2.0,
        health_check_timeout_s=10.0,
        graceful_shutdown_timeout_s=settings.drain_seconds,
    )
    return deployment.bind(settings)
