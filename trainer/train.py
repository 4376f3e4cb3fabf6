"""Training, and the only place that knows its order:

    tasks -> rollout -> score (HTTP) -> advantage -> filter -> objective -> update -> old policy, EMA

Enters: a configuration and its checked inputs. Leaves: a run directory with checkpoints, metrics, adapter and report.
Legend: P groups of an epoch over all processes, G candidates a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from shared.errors import RewardServiceUnavailable
from trainer import report
from trainer.advantage import weighted_advantages
from trainer.assembly import Run, assemble, save_checkpoint
from trainer.batching import assign_steps, build_batch
from trainer.config import TrainConfig
from trainer.evaluation.held_out import evaluate
from trainer.export import export_adapter
from trainer.filtering import KeepMask, filter_groups
from trainer.logbook import EpochLog, Stopwatch, record_epoch, record_evaluation
from trainer.preflight import Inputs
from trainer.progress import Display
from trainer.rollout import roll_out
from trainer.schedule import ema_decay, old_decay
from trainer.seeding import derived_seed, generator
from trainer.types import RolloutGroup, ScoredGroup, TaskGroup
from trainer.update import UpdateResult, update


def run_training(config: TrainConfig, inputs: Inputs, display: Display) -> Path:
    """Train from where the run directory stands to `config.epochs`; returns the run directory."""
    with assemble(config, inputs, display) as run, display.live(), display.bar("epochs", config.epochs) as advance:
        advance(run.epoch)
        _evaluate_once(run, 0)
        while run.epoch < config.epochs:
            _train_epoch(run, run.epoch + 1)
            if _is_due(run.epoch, config.evaluation.every, config.epochs):
                _evaluate_once(run, run.epoch)
            if _is_due(run.epoch, config.checkpoint.every, config.epochs):
                save_checkpoint(run)
            advance()
        _evaluate_once(run, run.epoch)
        if run.processes.is_main:
            export_adapter(run.policy, "ema", config.run_dir / "lora")
            report.write(config.run_dir, run.seconds)
    return config.run_dir


def _train_epoch(run: Run, epoch: int) -> None:
    """One walk of the training step."""
    config, watch = run.config, Stopwatch()
    groups = run.sampler.next_groups(epoch)

    with watch.time("rollout"):
        rollouts = _roll_out_and_submit(run, run.processes.share(groups, config.rollout.batch_groups))
    with watch.time("reward_wait"):
        scored = _collect(run, rollouts)
        rewards_P_G = _gather_rewards(run, scored)

    keep = filter_groups(rewards_P_G, config.filter.rule, run.filter_thresholds)
    in_std_P = None if config.filter.in_global_std else keep.kept_P
    components = _gather_components(run, scored)
    advantages_P_G = weighted_advantages(
        components or {"reward": rewards_P_G},
        run.component_weights or {"reward": 1.0},
        std=config.advantage.std,
        in_global_std_P=in_std_P,
    )
    worth_P_G = run.loss.worth(advantages_P_G)

    with watch.time("update"):
        result = _update(run, epoch, rollouts, worth_P_G, keep)
    decay = old_decay(0 if run.loss.on_policy else config.old_decay_type, run.optimizer_steps)
    run.policy.update_old(decay)
    if config.filter.rule == "ban":
        run.sampler.ban(group.task.id for group in groups if keep.reasons[group.index] == "ban")

    run.epoch = epoch
    record_epoch(run, EpochLog(epoch, rewards_P_G, components, keep, worth_P_G, result, decay, watch.seconds), scored)


def _roll_out_and_submit(run: Run, groups: Sequence[TaskGroup]) -> list[RolloutGroup]:
    """Generate group by group; each is scored in the background while the next ones are generated."""
    config, rollouts = run.config, []
    with run.display.bar("rollout", len(groups)) as advance:
        for rollout in roll_out(
            run.family,
            run.policy,
            groups,
            group_size=config.group_size,
            num_steps=config.rollout.steps,
            noise_level=run.loss.noise_level,
            choose_size=run.choose_size,
            batch_groups=config.rollout.batch_groups,
            seed=config.seed,
        ):
            group = rollout.group
            judge_seed = derived_seed(config.seed, "judge", group.epoch, group.index)
            run.queue.submit(group.task, rollout.sources, rollout.candidates, judge_seed)
            rollouts.append(rollout)
            advance()
    return rollouts


def _collect(run: Run, rollouts: Sequence[RolloutGroup]) -> list[ScoredGroup]:
    collected = run.queue.collect()
    return [ScoredGroup(r, one.values, one.failures, one.parts) for r, one in zip(rollouts, collected, strict=True)]


def _gather_rewards(run: Run, scored: Sequence[ScoredGroup]) -> Tensor:
    """Everyone's rewards, float64 [P, G], NaN where missing. Raises RewardServiceUnavailable when all are."""
    rewards_P_G = _gather(run, {group.rollout.group.index: group.rewards for group in scored})
    if rewards_P_G.isnan().all():
        reason = next(failure for group in scored for failure in group.failures)
        raise RewardServiceUnavailable(f"not one of {rewards_P_G.numel()} candidates got a score; the first: {reason}")
    return rewards_P_G


def _gather_components(run: Run, scored: Sequence[ScoredGroup]) -> dict[str, Tensor]:
    """Everyone's sub-scores that are normalised one by one, float64 [P, G] each; empty when there are none."""
    return {
        name: _gather(run, {one.rollout.group.index: [part.get(name) for part in one.parts] for one in scored})
        for name in run.component_weights
    }


def _gather(run: Run, values_by_group: Mapping[int, Sequence[float | None]]) -> Tensor:
    """Everyone's values, float64 [P, G], NaN where missing."""
    own_P_G = torch.zeros(run.config.groups_per_epoch, run.config.group_size, dtype=torch.float64)
    for index, values in values_by_group.items():
        row = [float("nan") if value is None else value for value in values]
        own_P_G[index] = torch.tensor(row, dtype=torch.float64)
    return run.processes.sum(own_P_G)


def _update(run: Run, epoch: int, rollouts: Sequence[RolloutGroup], worth_P_G: Tensor, keep: KeepMask) -> UpdateResult:
    """The epoch's optimizer steps; the EMA follows after each."""
    config = run.config
    dealer = generator(config.seed, "optimizer steps", epoch)
    batch = build_batch(
        rollouts,
        worth_P_G,
        assign_steps(worth_P_G, keep.kept_P, config.optimizer_steps_per_epoch, dealer),
        num_optimizer_steps=config.optimizer_steps_per_epoch,
        groups_per_unit=config.rollout.batch_groups,
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
    """Evaluate the EMA weights (before training: the reference) unless that was done already."""
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
            on_batch=advance,
        )
    run.evaluated.add(epoch)
    record_evaluation(run, evaluation, pictures, watch.seconds["evaluation"])


def _is_due(epoch: int, every: int, last: int) -> bool:
    return epoch == last or (every > 0 and epoch % every == 0)
