"""Checks made before any model is loaded: task lists, metric paths, the reward service. Does not import torch,
unless true classifier-free guidance is configured.

Takes the configuration and returns the tasks and metrics, or raises one clear error within seconds (within
reward.wait_seconds while the service is starting).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from edit_r1.shared.client import RewardClient
from edit_r1.shared.errors import ConfigError, DataError
from edit_r1.shared.schemas import ServiceInfo
from edit_r1.trainer.config import TrainConfig
from edit_r1.trainer.held_out.metrics import Metric, load_metrics, measure
from edit_r1.trainer.mathematics.sizes import one_size
from edit_r1.trainer.models import max_sources
from edit_r1.trainer.run.true_cfg import check_true_cfg
from edit_r1.trainer.tasks.task_list import TaskList, describe_tasks, load_sources, read_task_list
from edit_r1.trainer.types import EditTask


@dataclass(frozen=True)
class Inputs:
    """The checked inputs of a run."""

    train: TaskList
    held_out: Sequence[EditTask]
    """Empty when evaluation is off."""
    metrics: Mapping[str, Metric]
    service: ServiceInfo
    """The reward service's description of itself."""


def preflight(config: TrainConfig, tell: Callable[[str], None]) -> Inputs:
    """Check everything that can be checked cheaply; `tell` is called with findings and while waiting for the service.

    Raises DataError, ConfigError, RewardServiceUnavailable or RewardRequestRejected.
    """
    check_trackers(config)
    check_true_cfg(config)
    train, held_out, metrics = check_data(config, tell)
    return Inputs(train, held_out, metrics, check_service(config, tell))


def check_trackers(config: TrainConfig) -> None:
    """Raises ConfigError when a configured tracker is not installed."""
    for name in config.trackers:
        if find_spec(name) is None:
            raise ConfigError(f"trackers: {name} is not installed; install the extra `trackers`")


def check_data(
    config: TrainConfig, tell: Callable[[str], None]
) -> tuple[TaskList, Sequence[EditTask], Mapping[str, Metric]]:
    """Return the training tasks, the held-out tasks and the metrics. Raises DataError or ConfigError."""
    data = config.data
    train = read_task_list(data.train, data.root, data.columns)
    _check_sources(config, train)
    held_out: Sequence[EditTask] = ()
    if data.held_out:
        held_out = read_task_list(data.held_out, data.root, data.columns)[: config.evaluation.tasks]
        _check_sources(config, held_out)
    tell(f"training on {describe_tasks(train)}")
    if isinstance(held_out, TaskList):
        tell(f"evaluating on {describe_tasks(held_out)}")
    metrics = load_metrics(config.evaluation.metrics)
    if held_out:  # a broken metric fails now, not after an hour
        measure(metrics, held_out[0], load_sources(held_out[0], one_size((config.model.width, config.model.height)))[0])
    return train, held_out, metrics


def check_service(config: TrainConfig, tell: Callable[[str], None]) -> ServiceInfo:
    """Wait for the service and check that it supports what the run needs. Raises ConfigError or RewardServiceError."""
    service = asyncio.run(_wait_for_service(config, tell))
    _check_service(config, service)
    where = ", ".join(config.reward.url)
    tell(f"reward service at {where}: {service.model} ({service.engine}), method {config.reward.method}")
    return service


async def _wait_for_service(config: TrainConfig, tell: Callable[[str], None]) -> ServiceInfo:
    reward = config.reward
    async with RewardClient(reward.url, api_key=reward.api_key, timeout_seconds=reward.timeout_seconds) as client:
        return await client.wait_ready(reward.wait_seconds, on_wait=tell)


def _check_sources(config: TrainConfig, tasks: TaskList) -> None:
    limit = max_sources(config.model.family)
    if tasks.summary.num_sources[1] > limit:
        task = next(task for task in tasks if len(task.sources) > limit)
        raise DataError(
            f"the task {task.instruction!r} has {len(task.sources)} source images; "
            f"model.family = {config.model.family} takes at most {limit}"
        )


def _check_service(config: TrainConfig, service: ServiceInfo) -> None:
    for key, method in (
        ("reward.method", config.reward.method),
        ("monitor.second_method", config.monitor.second_method),
    ):
        if method is not None and method not in service.methods:
            raise ConfigError(
                f"{key} = {method!r}: the service at {', '.join(config.reward.url)} offers {', '.join(service.methods)}"
            )
    if config.group_size > service.limits.max_candidates:
        raise ConfigError(
            f"group_size = {config.group_size}: the service at {', '.join(config.reward.url)} accepts at most "
            f"{service.limits.max_candidates} candidates per group"
        )
