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
from edit_r1.shared.errors import ConfigError, DataError, EditR1Error, RewardRequestRejected, RewardServiceError
from edit_r1.shared.schemas import ServiceInfo
from edit_r1.trainer.config import TrainConfig
from edit_r1.trainer.held_out.metrics import Metric, load_metrics, measure
from edit_r1.trainer.mathematics.sizes import one_size
from edit_r1.trainer.models import max_sources
from edit_r1.trainer.rewards.terms import Term, terms_of
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
    services: Mapping[str, ServiceInfo]
    """The reward services' descriptions of themselves, by term; a run's only reward has the name `reward`."""


def preflight(config: TrainConfig, tell: Callable[[str], None]) -> Inputs:
    """Check everything that can be checked cheaply; `tell` is called with findings and while waiting for the service.

    Raises DataError, ConfigError, RewardServiceUnavailable or RewardRequestRejected.
    """
    check_trackers(config)
    check_true_cfg(config)
    train, held_out, metrics = check_data(config, tell)
    return Inputs(train, held_out, metrics, check_services(config, tell))


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


def check_services(config: TrainConfig, tell: Callable[[str], None]) -> Mapping[str, ServiceInfo]:
    """Wait for the services of all rewards and check that they support what the run needs.

    Raises ConfigError or RewardServiceError; with several rewards, one error names every fault.
    """
    terms = terms_of(config.reward)
    outcomes = asyncio.run(_ask_all(config, terms, tell))
    faults = [outcome for outcome in outcomes if isinstance(outcome, EditR1Error)]
    if len(faults) == 1:
        raise faults[0]
    if faults:
        kind = ConfigError if all(isinstance(fault, ConfigError) for fault in faults) else RewardServiceError
        raise kind("; ".join(dict.fromkeys(map(str, faults))))
    services = [outcome for outcome in outcomes if isinstance(outcome, ServiceInfo)]
    by_term = {term.name or "reward": service for term, service in zip(terms, services, strict=True)}
    if config.rollout.group_parts != "auto":  # else it depends on the number of processes
        check_whole_groups(config, by_term, config.rollout.group_parts)
    for term, service in zip(terms, services, strict=True):
        called = "reward service" if term.name is None else f"reward {term.name}, weight {term.weight:g}: service"
        tell(f"{called} at {', '.join(term.url)}: {service.model} ({service.engine}), method {term.method}")
    return by_term


async def _ask_all(
    config: TrainConfig, terms: Sequence[Term], tell: Callable[[str], None]
) -> list[ServiceInfo | EditR1Error]:
    """For each term its service's description, or the reason why the term cannot be used."""

    async def ask(term: Term, other_methods: Mapping[str, str | None]) -> ServiceInfo | EditR1Error:
        try:
            service = await _wait_for_service(config, term, tell)
            _check_service(config, term, service, other_methods)
        except EditR1Error as error:
            return error
        return service

    # The first term's service also answers these.
    first = {"monitor.second_method": config.monitor.second_method, "evaluation.method": config.evaluation.method}
    none: Mapping[str, str | None] = {}
    return await asyncio.gather(*map(ask, terms, [first, *[none] * (len(terms) - 1)]))


async def _wait_for_service(config: TrainConfig, term: Term, tell: Callable[[str], None]) -> ServiceInfo:
    reward = config.reward
    async with RewardClient(term.url, api_key=term.api_key, timeout_seconds=reward.timeout_seconds) as client:
        try:
            return await client.wait_ready(reward.wait_seconds, on_wait=tell)
        except RewardRequestRejected as error:
            if term.name is None:
                raise
            raise RewardServiceError(f"{term.key} ({term.name}) at {client.url}: {error}") from error


def _check_sources(config: TrainConfig, tasks: TaskList) -> None:
    limit = max_sources(config.model.family)
    if tasks.summary.num_sources[1] > limit:
        task = next(task for task in tasks if len(task.sources) > limit)
        raise DataError(
            f"the task {task.instruction!r} has {len(task.sources)} source images; "
            f"model.family = {config.model.family} takes at most {limit}"
        )


def check_whole_groups(config: TrainConfig, services: Mapping[str, ServiceInfo], num_parts: int) -> None:
    """Methods that compare the candidates of a group need them in one request: raises ConfigError if they are not.

    services: as in `Inputs`. num_parts: parts into which each group is divided.
    """
    terms = terms_of(config.reward)
    methods = {f"{term.key}.method": (term.method, services[term.name or "reward"]) for term in terms}
    if config.monitor.second_method is not None:
        methods["monitor.second_method"] = (config.monitor.second_method, services[terms[0].name or "reward"])
    for key, (method, service) in methods.items():
        if num_parts > 1 and method in service.relative_methods:
            raise ConfigError(
                f"{key} = {method!r} compares all candidates of a group, but each group is divided into {num_parts} "
                "parts that are scored apart (rollout.group_parts): set rollout.group_parts=1, and use no more "
                "processes than batches of groups"
            )


def _check_service(
    config: TrainConfig, term: Term, service: ServiceInfo, other_methods: Mapping[str, str | None]
) -> None:
    where = ", ".join(term.url)
    for key, method in {f"{term.key}.method": term.method, **other_methods}.items():
        if method is not None and method not in service.methods:
            raise ConfigError(f"{key} = {method!r}: the service at {where} offers {', '.join(service.methods)}")
    key, method = f"{term.key}.method", term.method
    if config.evaluation.method is not None:
        key, method = "evaluation.method", config.evaluation.method
    if config.data.held_out and method in service.relative_methods:
        raise ConfigError(
            f"{key} = {method!r} compares the candidates of a group, but an evaluation has one edit per task: set "
            "evaluation.method to another method, such as score_logit"
        )
    if config.group_size > service.limits.max_candidates:
        raise ConfigError(
            f"group_size = {config.group_size}: the service at {where} accepts at most "
            f"{service.limits.max_candidates} candidates per group"
        )
