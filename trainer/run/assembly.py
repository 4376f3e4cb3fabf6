"""Assembles a Run from its parts (trainer/run/components.py), fresh or from a checkpoint, and saves its checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from edit_r1.shared.config import dump_config
from edit_r1.shared.files import write_text
from edit_r1.trainer.config import CHECKPOINTS_NAME, CONFIG_NAME, TrainConfig, check_world_size
from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.machine.progress import Display
from edit_r1.trainer.machine.seeding import derived_seed
from edit_r1.trainer.machine.stopping import StopSignals
from edit_r1.trainer.mathematics.alarms import AlarmLimits
from edit_r1.trainer.mathematics.filtering import FilterThresholds
from edit_r1.trainer.mathematics.sizes import ChooseSize
from edit_r1.trainer.models.base import ModelFamily
from edit_r1.trainer.policy import checkpoint
from edit_r1.trainer.policy.base import Policy
from edit_r1.trainer.policy.checkpoint import RunState
from edit_r1.trainer.records import records
from edit_r1.trainer.records.metrics_log import MetricsLog
from edit_r1.trainer.rewards.reward_queue import RewardQueue
from edit_r1.trainer.run.components import (
    alarm_limits,
    build_loss,
    build_optimizer,
    build_policy,
    build_queue,
    build_sharder,
    choose_size,
    component_weights,
    cut_instructions,
    filter_thresholds,
    load_family,
)
from edit_r1.trainer.run.preflight import Inputs
from edit_r1.trainer.run.resuming import find_start, flatten
from edit_r1.trainer.tasks.group_sampler import GroupSampler, SamplerState
from edit_r1.trainer.tasks.task_list import longest_instructions
from edit_r1.trainer.update.losses import Loss

_COMPANY_SECONDS = 1800.0
"""Allowed time between processes for reasons other than the reward service: a slow disk, a long compilation."""


@dataclass
class Run:
    """Everything an epoch needs. The last fields are counters."""

    config: TrainConfig
    inputs: Inputs
    processes: Processes
    display: Display
    family: ModelFamily
    policy: Policy
    optimizer: torch.optim.AdamW
    sampler: GroupSampler
    sampler_state: SamplerState
    """State of the sampler after the last finished epoch; the sampler itself may be ahead."""
    queue: RewardQueue
    log: MetricsLog | None
    """None except on the main process."""
    choose_size: ChooseSize
    """Maps an image's size to the size it is trained at."""
    filter_thresholds: FilterThresholds
    loss: Loss
    alarm_limits: AlarmLimits
    component_weights: Mapping[str, float]
    """Weights of sub-scores with separate advantages; empty when the reward is a single number."""
    evaluated: set[int]
    """Epochs whose evaluation is recorded."""
    started_at: float
    """time.monotonic() at which an uninterrupted run would have started."""
    epoch: int = 0
    """Epochs finished."""
    optimizer_steps: int = 0
    """Optimizer steps taken so far."""
    saved_epoch: int = -1
    """Epoch of the newest checkpoint in the run directory; -1 for none."""
    saved_at: float = field(default_factory=time.monotonic)
    """time.monotonic() of the newest checkpoint, or of the start."""

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, including before resumes."""
        return time.monotonic() - self.started_at


@contextmanager
def assemble(config: TrainConfig, inputs: Inputs, display: Display) -> Iterator[Run]:
    """Build the run, fresh or from a checkpoint; everything is closed at the end of the block.

    Inside the block, signals ask the run to stop (trainer/machine/stopping.py). While it is being built they end the
    process at once: nothing would be lost.
    """
    started_at = time.monotonic()
    if config.cpu_threads is not None:
        torch.set_num_threads(config.cpu_threads)
    with ExitStack() as stack:
        stop_signals = StopSignals()
        stack.callback(stop_signals.restore)
        processes = Processes(config.reward.deadline_seconds + _COMPANY_SECONDS, stop_signals)
        stack.callback(processes.close)
        check_world_size(config, processes.count)
        torch.manual_seed(derived_seed(config.seed, "process", processes.rank))
        display.say(processes.describe())
        start = find_start(config, display.say)
        evaluated = records.evaluated_epochs(config.run_dir) if start is not None else set()
        processes.wait()  # no process writes before all have read
        family = load_family(config, processes.device, num_processes=processes.count)
        if processes.is_main:
            texts = longest_instructions(inputs.train, inputs.held_out)
            if warning := cut_instructions(family, texts):
                display.say(warning)
        policy = build_policy(config, family, build_sharder(config, family, processes))
        if config.model.compile != "none":
            transformer: Any = family.transformer  # diffusers ships no types
            transformer.compile_repeated_blocks(backend=config.model.compile)
        sampler = GroupSampler(inputs.train, config.seed)
        run = Run(
            config=config,
            inputs=inputs,
            processes=processes,
            display=display,
            family=family,
            policy=policy,
            optimizer=build_optimizer(config, policy),
            sampler=sampler,
            sampler_state=sampler.state,
            queue=stack.enter_context(build_queue(config, display.say)),
            log=None,
            choose_size=choose_size(config, family),
            filter_thresholds=filter_thresholds(config),
            loss=build_loss(config, family, policy),
            alarm_limits=alarm_limits(config),
            component_weights=component_weights(config),
            evaluated=evaluated,
            started_at=started_at,
        )
        if start is not None:
            _resume(run, start)
        if processes.is_main:
            run.log = stack.enter_context(_open_run_dir(config, inputs, run.epoch if start else -1))
        stop_signals.listen()
        yield run


def save_checkpoint(run: Run) -> None:
    """Write step-N for the epochs finished so far; all processes must call this."""
    states = run.processes.gather([(run.processes.rank, torch.get_rng_state())])
    checkpoint.save(
        run.config.run_dir / CHECKPOINTS_NAME,
        run.policy,
        run.optimizer,
        RunState(
            epoch=run.epoch,
            optimizer_steps=run.optimizer_steps,
            sampler=run.sampler_state,
            num_processes=run.processes.count,
            seconds=run.seconds,
        ),
        random_states=checkpoint.RandomStates(dict(states)),
        config_yaml=dump_config(run.config),
        keep=run.config.checkpoint.keep,
        write=run.processes.is_main,
    )
    run.processes.wait()
    run.saved_epoch, run.saved_at = run.epoch, time.monotonic()


def checkpoint_is_late(run: Run) -> bool:
    """Whether `checkpoint.minutes` have passed since the last checkpoint, by the main process's clock."""
    minutes = run.config.checkpoint.minutes
    if minutes is None:
        return False
    late = run.processes.is_main and time.monotonic() - run.saved_at >= 60 * minutes
    return bool(run.processes.sum(torch.tensor(float(late))))


def _resume(run: Run, start: Path) -> None:
    """Restore a checkpoint."""
    state = checkpoint.restore(start, run.policy, run.optimizer, run.processes.rank)
    run.epoch, run.optimizer_steps = state.epoch, state.optimizer_steps
    run.sampler.restore(state.sampler)
    run.sampler_state = state.sampler
    run.started_at -= state.seconds
    run.evaluated = {epoch for epoch in run.evaluated if epoch <= state.epoch}
    if start.parent == run.config.run_dir / CHECKPOINTS_NAME:
        run.saved_epoch = run.epoch
    run.display.say(f"resuming from {start} after {run.epoch} epochs")
    if state.num_processes != run.processes.count:
        run.display.say(
            f"resuming with {run.processes.count} processes (was {state.num_processes}): groups, noise and loss stay "
            f"the same but are divided differently; sums over processes may differ in the last bits"
        )


def _open_run_dir(config: TrainConfig, inputs: Inputs, start_epoch: int) -> MetricsLog:
    """Write the resolved configuration, remove records that a resumed run will rewrite, and open the log."""
    config.run_dir.mkdir(parents=True, exist_ok=True)
    records.forget_after(config.run_dir, start_epoch)
    write_text(config.run_dir / CONFIG_NAME, dump_config(config))
    records.save_versions(config.run_dir, inputs.service)
    return MetricsLog(
        config.run_dir,
        start_epoch,
        trackers=config.trackers,
        project=config.tracker_project,
        config=flatten(config.model_dump(mode="json")),
    )
