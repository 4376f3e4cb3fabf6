"""The training loop, which orders the stages:

    tasks -> rollout -> score (HTTP) -> filter -> advantage -> objective -> update -> old policy, EMA

`run.pending_epoch` has the first half of an epoch, up to its scores; `finish_epoch` is the second.
Takes a configuration and its checked inputs; writes a run directory with checkpoints, metrics, adapter and report.
Legend: P groups per epoch over all processes, G candidates per group.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from edit_r1.shared.errors import RewardServiceError
from edit_r1.trainer.config import TrainConfig
from edit_r1.trainer.held_out.evaluation import evaluate
from edit_r1.trainer.machine.progress import Bar, Display
from edit_r1.trainer.machine.seeding import generator
from edit_r1.trainer.machine.stopping import Stopped
from edit_r1.trainer.mathematics.advantage import weighted_advantages
from edit_r1.trainer.mathematics.filtering import KeepMask, filter_jointly, solved_groups
from edit_r1.trainer.mathematics.schedule import ema_decay, old_decay
from edit_r1.trainer.policy.export import export_run
from edit_r1.trainer.report import report
from edit_r1.trainer.run.assembly import Run, assemble, checkpoint_is_late, save_checkpoint
from edit_r1.trainer.run.indicators import observe
from edit_r1.trainer.run.logbook import EpochLog, Stopwatch, record_epoch, record_evaluation
from edit_r1.trainer.run.pending_epoch import PendingEpoch, begin_epoch, collect_scores
from edit_r1.trainer.run.preflight import Inputs
from edit_r1.trainer.run.true_cfg import evaluation_true_cfg
from edit_r1.trainer.types import RolloutGroup
from edit_r1.trainer.update.batching import assign_steps, build_batch
from edit_r1.trainer.update.update import UpdateResult, update


def run_training(config: TrainConfig, inputs: Inputs, display: Display) -> Path:
    """Train from the run directory's current state up to `config.epochs`; returns the run directory.

    Raises RewardServiceError when rewards cannot be obtained, and Stopped when a signal asked for it; a checkpoint of
    the last finished epoch is written first. The resumed run repeats the unfinished epoch from its tasks on.
    """
    with assemble(config, inputs, display) as run, display.live(), display.bar("epochs", config.epochs) as advance:
        advance(run.epoch)
        try:
            _train(run, advance)
        except RewardServiceError:
            save_checkpoint(run)
            display.say(f"checkpoint of epoch {run.epoch} written; rerun the same command to resume from there")
            raise
        except Stopped as stop:
            if run.saved_epoch != run.epoch:
                save_checkpoint(run)
            display.say(f"stopped by {stop.signal.name} after epoch {run.epoch}; the same command resumes from there")
            raise
        export_run(run.policy, config.run_dir, write=run.processes.is_main)
        if run.processes.is_main:
            report.write(config.run_dir, run.seconds)
    return config.run_dir


def _train(run: Run, advance: Bar) -> None:
    config, ahead = run.config, deque[PendingEpoch]()
    _evaluate_once(run, 0)
    if _is_due(run.epoch, config.evaluation.every, config.epochs):
        _evaluate_once(run, run.epoch)  # the run may have stopped during this evaluation
    while run.epoch < config.epochs:
        while len(ahead) <= config.max_staleness and _may_begin(run, run.epoch + len(ahead) + 1):
            ahead.append(begin_epoch(run, run.epoch + len(ahead) + 1))
        finish_epoch(run, ahead.popleft())
        # A run resumed here must redraw the epochs that were started ahead.
        drawn = ahead[0].sampler_before if ahead else run.sampler.state
        run.sampler_state = replace(drawn, banned=run.sampler.state.banned)
        if _is_due(run.epoch, config.evaluation.every, config.epochs):
            _evaluate_once(run, run.epoch)
        if _is_due(run.epoch, config.checkpoint.every, config.epochs) or checkpoint_is_late(run):
            save_checkpoint(run)
        advance()
    _evaluate_once(run, run.epoch)


def _may_begin(run: Run, epoch: int) -> bool:
    """Whether an epoch may be rolled out now: it is within the run, and no checkpoint is due before it."""
    passed = range(run.epoch + 1, epoch)
    return epoch <= run.config.epochs and not any(
        _is_due(one, run.config.checkpoint.every, run.config.epochs) for one in passed
    )


def finish_epoch(run: Run, pending: PendingEpoch) -> None:
    """The second half of a training step, from scores to the updated policy."""
    config, epoch, watch = run.config, pending.epoch, pending.watch
    scores = collect_scores(run, pending)
    keep = filter_jointly(scores.separate, config.filter.rule, run.filter_thresholds)
    advantages_P_G = weighted_advantages(
        scores.separate,
        run.component_weights or {"reward": 1.0},
        std=config.advantage.std,
        in_global_std_P=None if config.filter.in_global_std else keep.by_reward,
        muted_P=keep.muted,
    )
    worth_P_G = run.loss.worth(advantages_P_G)

    with watch.time("update"):
        result = _update(run, epoch, pending.rollouts, worth_P_G, keep.groups)
    decay = old_decay(0 if run.loss.on_policy else config.old_decay_type, run.optimizer_steps)
    run.policy.update_old(decay)
    if config.filter.ban:
        solved_P = solved_groups(scores.separate, run.filter_thresholds)
        run.sampler.ban(group.task.id for group in pending.groups if solved_P[group.index])

    run.epoch = epoch
    with watch.time("monitor"):
        signs = observe(run, epoch, scores)
    log = EpochLog(
        epoch, pending.staleness, scores.rewards_P_G, scores.components, keep, worth_P_G, result, decay, signs
    )
    record_epoch(run, log, watch.seconds, scores.scored)


def _update(run: Run, epoch: int, rollouts: Sequence[RolloutGroup], worth_P_G: Tensor, keep: KeepMask) -> UpdateResult:
    """Run the epoch's optimizer steps, updating the EMA after each."""
    config = run.config
    dealer = generator(config.seed, "optimizer steps", epoch)
    batch = build_batch(
        rollouts,
        worth_P_G,
        assign_steps(worth_P_G, keep.kept_P, config.optimizer_steps_per_epoch, dealer),
        num_optimizer_steps=config.optimizer_steps_per_epoch,
    )
    with run.display.bar("update", len(batch.places) * run.loss.num_timesteps) as advance:
        return update(
            run.policy,
            run.optimizer,
            batch,
            run.loss,
            micro_batch_size=config.micro_batch_size,
            max_grad_norm=config.optimizer.max_grad_norm,
            processes=run.processes,
            on_step=lambda: _follow_with_ema(run),
            on_rows=advance,
        )


def _follow_with_ema(run: Run) -> None:
    run.optimizer_steps += 1
    run.policy.update_ema(ema_decay(run.optimizer_steps, run.config.ema_decay))


def _evaluate_once(run: Run, epoch: int) -> None:
    """Evaluate the EMA weights (the reference policy before training) unless already done for this epoch."""
    if not run.inputs.held_out or epoch in run.evaluated:
        return
    config = run.config.evaluation
    watch = Stopwatch()
    with watch.time("evaluation"), run.display.bar("evaluation", len(run.inputs.held_out)) as advance:
        evaluation, pictures = evaluate(
            run.family,
            run.policy,
            "ema" if epoch else "reference",
            run.inputs.held_out,
            queue=run.queue,
            metrics=run.inputs.metrics,
            processes=run.processes,
            epoch=epoch,
            num_steps=config.steps,
            choose_size=run.choose_size,
            batch_size=config.batch_size,
            seed=config.seed,
            num_pictures=config.pictures,
            method=config.method,
            reward_names=run.component_weights,
            true_cfg=evaluation_true_cfg(run.config),
            on_batch=advance,
        )
    run.evaluated.add(epoch)
    record_evaluation(run, evaluation, pictures, watch.seconds["evaluation"])


def _is_due(epoch: int, every: int, last: int) -> bool:
    return epoch == last or (every > 0 and epoch % every == 0)
