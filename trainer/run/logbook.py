"""Logging of epochs and evaluations: metrics, a terminal line, and images for the report.

Writes files in the run directory that training does not depend on. Metric names are listed in docs/training.md.
"""
# ruff: noqa: N815 - field names include their dimensions, as argument names do

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from edit_r1.trainer.held_out.evaluation import Pictures
from edit_r1.trainer.mathematics.advantage import group_std
from edit_r1.trainer.mathematics.alarms import ALARMS, find_alarms
from edit_r1.trainer.mathematics.filtering import BELOW_QUORUM, JointKeep, KeepMask, num_dropped_by_rule
from edit_r1.trainer.records import records
from edit_r1.trainer.records.metrics_log import MetricsLog
from edit_r1.trainer.records.records import Evaluation, ShownGroup
from edit_r1.trainer.report.grids import group_grid
from edit_r1.trainer.run.assembly import Run
from edit_r1.trainer.types import ScoredGroup
from edit_r1.trainer.update.update import UpdateResult


class Stopwatch:
    """Wall-clock seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the block's duration to `stage`."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] += time.monotonic() - start


@dataclass(frozen=True)
class EpochLog:
    """Results of one epoch, the same on every process."""

    epoch: int
    staleness: int
    """Number of epochs by which the old policy lagged behind."""
    rewards_P_G: Tensor
    components: Mapping[str, Tensor]
    """Separately normalised rewards, [P, G] each; empty when there are none."""
    keep: JointKeep
    worth_P_G: Tensor
    update: UpdateResult
    old_decay: float
    signs: Mapping[str, float]
    """Metrics from `trainer.run.indicators`."""


def record_epoch(run: Run, log: EpochLog, seconds: Mapping[str, float], scored: Sequence[ScoredGroup]) -> None:
    """Log metrics and a terminal line on the main process; save images of some groups in epochs shown in the report.

    seconds: wall time by stage on this process. scored: this process's groups.
    """
    failures = run.processes.gather([failure for group in scored for failure in group.rewards.failures])
    metrics = {
        **epoch_metrics(log, run),
        **{f"time/{stage}_seconds": value for stage, value in seconds.items()},
        "time/epoch_seconds": sum(seconds.values()),
    }
    if run.log is not None:
        metrics |= _alarms(run, run.log, metrics)
        run.log.write(log.epoch, metrics)
    if failures:
        run.display.say(f"epoch {log.epoch}: {len(failures)} scores are missing; first failure: {failures[0]}")
    run.display.say(_line(log.epoch, metrics, seconds, run.config.epochs))
    if log.epoch in (1, run.config.epochs) or log.epoch % run.config.report.every == 0:
        _save_groups(run, log, scored)


def record_evaluation(run: Run, evaluation: Evaluation, pictures: Pictures, seconds: float) -> None:
    """Log metrics, a terminal line and images of one evaluation."""
    means = evaluation.means()
    values = "  ".join(f"{name} {value:.3f}" for name, value in means.items() if value is not None)
    run.display.say(f"evaluation after epoch {evaluation.epoch} on {len(evaluation.tasks)} held-out tasks: {values}")
    if run.log is not None:
        run.log.write(
            evaluation.epoch,
            {**{f"eval/{name}": value for name, value in means.items()}, "time/evaluation_seconds": seconds},
        )
        records.save_evaluation(run.config.run_dir, evaluation, pictures)


def epoch_metrics(log: EpochLog, run: Run) -> dict[str, float]:
    """The epoch's metrics by name."""
    rewards, present = log.rewards_P_G, ~log.rewards_P_G.isnan()
    rho = log.worth_P_G[~log.worth_P_G.isnan()]
    dropped = num_dropped_by_rule(log.components or {"reward": rewards}, run.filter_thresholds)
    result = log.update
    return {
        "reward/mean": float(rewards[present].mean()),
        "reward/std": float(rewards[present].std(correction=0)),
        "reward/group_std": float(group_std(rewards).nanmean()),
        **_component_metrics(log),
        "reward/missing_fraction": 1.0 - float(present.double().mean()),
        "rollout/staleness_epochs": float(log.staleness),
        "filter/replaced_groups": float(len(rewards) - run.config.groups_per_epoch),
        "filter/kept_fraction": float(log.keep.groups.kept_P.double().mean()),
        "filter/below_quorum_groups": float(log.keep.groups.reasons.count(BELOW_QUORUM)),
        **{f"filter/{rule}_drops_groups": float(count) for rule, count in dropped.items()},
        "filter/banned_tasks": float(len(run.sampler.state.banned)),
        "optimality/std": float(rho.std(correction=0)) if rho.numel() else 0.0,
        **result.terms,
        "optimizer/grad_norm": result.grad_norm,
        "optimizer/steps": float(run.optimizer_steps),
        "policy/old_decay": log.old_decay,
        **log.signs,
        **_compilation(run),
    }


def _component_metrics(log: EpochLog) -> dict[str, float]:
    """Mean, spread, missing share and kept groups of each separately normalised reward, by metric name."""
    metrics: dict[str, float] = {}
    for name, rewards in log.components.items():
        label, present = name.replace(".", "_"), rewards[~rewards.isnan()]
        metrics |= {
            f"reward/{label}_mean": float(present.mean()),
            f"reward/{label}_std": float(present.std(correction=0)) if present.numel() else math.nan,
            f"reward/{label}_missing_fraction": 1.0 - present.numel() / rewards.numel(),
            f"filter/{label}_kept_fraction": float(log.keep.by_reward[name].double().mean()),
        }
    return metrics


def _compilation(run: Run) -> dict[str, float]:
    """Since the last epoch: variants of the transformer's blocks that were compiled, and classes of blocks above the
    limit; empty without `model.compile`.
    """
    if run.compiled is None:
        return {}
    return {
        "compile/new_variants": float(run.compiled.num_new_graphs()),
        "compile/uncompiled": float(len(run.compiled.uncompiled)),
    }


def _alarms(run: Run, log: MetricsLog, metrics: Mapping[str, float]) -> dict[str, float]:
    """The alarms as metrics; newly raised ones are shown on the terminal."""
    epochs = [line for line in log.lines if "reward/mean" in line]
    present = {name: value for name, value in metrics.items() if math.isfinite(value)}
    on = find_alarms([*epochs, present], run.alarm_limits)
    for name in sorted(on):
        if not (epochs and epochs[-1].get(f"alarm/{name}")):
            run.display.say(f"ALARM {name}: {ALARMS[name]}")
    return {f"alarm/{name}": float(name in on) for name in ALARMS}


def _line(epoch: int, metrics: Mapping[str, float], seconds: Mapping[str, float], epochs: int) -> str:
    stages = ", ".join(f"{stage.replace('_', ' ')} {value:.1f}" for stage, value in seconds.items())
    return (
        f"epoch {epoch:>{len(str(epochs))}}/{epochs}  reward {metrics['reward/mean']:.3f}  "
        f"kept {metrics['filter/kept_fraction']:.0%}  {metrics['time/epoch_seconds']:.1f} s ({stages})"
    )


def _save_groups(run: Run, log: EpochLog, scored: Sequence[ScoredGroup]) -> None:
    """Keep images of a few groups: the best, the worst, a dropped one if any, then others."""
    means = log.rewards_P_G.nanmean(dim=1)
    by_mean = [index for index in means.argsort().tolist() if not means[index].isnan()]
    standing = {by_mean[0]: "worst", by_mean[-1]: "best"}
    dropped = [index for index, reason in enumerate(log.keep.groups.reasons) if reason is not None]
    wanted = list(dict.fromkeys([by_mean[-1], by_mean[0], *dropped[:1], *range(len(means))]))
    wanted = wanted[: run.config.report.groups]
    mine = [one for one in scored if one.rollout.group.index in wanted]
    shown = [_shown(one, log.keep.groups, standing) for one in mine]
    pictures = dict(
        run.processes.gather_on_main([named for pair in zip(shown, mine, strict=True) for named in _named(*pair)])
    )
    starts = [one.rollout.part.candidates.start for one in mine]
    everyones = _joined(run.processes.gather(list(zip(starts, shown, strict=True))))
    everyones.sort(key=lambda group: wanted.index(group.index))
    if run.log is not None and everyones:
        records.save_rollouts(run.config.run_dir, log.epoch, everyones, pictures)
        rows = [
            (pictures[group.source], [(pictures[group.candidates[i]], group.rewards[i]) for i in group.best_first])
            for group in everyones
        ]
        run.log.show(log.epoch, "rollout/groups", group_grid(rows))


def _named(shown: ShownGroup, group: ScoredGroup) -> Iterator[tuple[str, Image.Image]]:
    """(file name, image) of the source, unless another part of the group has it, and of each candidate."""
    if group.rollout.part.candidates.start == 0:
        yield shown.source, group.rollout.sources[0]
    yield from zip(shown.candidates, group.rollout.candidates, strict=True)


def _joined(parts: Iterable[tuple[int, ShownGroup]]) -> list[ShownGroup]:
    """Whole groups from (first candidate, part of a group)."""
    groups: dict[int, ShownGroup] = {}
    for _, part in sorted(parts, key=lambda one: one[0]):
        group = groups.get(part.index)
        groups[part.index] = (
            part
            if group is None
            else group.model_copy(
                update={"candidates": group.candidates + part.candidates, "rewards": group.rewards + part.rewards}
            )
        )
    return list(groups.values())


def _shown(group: ScoredGroup, keep: KeepMask, standing: Mapping[int, str]) -> ShownGroup:
    rollout, index = group.rollout, group.rollout.group.index
    return ShownGroup(
        index=index,
        instruction=rollout.group.task.instruction,
        task=rollout.group.task.task,
        source=f"{index:03d}-source.webp",
        candidates=tuple(f"{index:03d}-{candidate:02d}.webp" for candidate in rollout.part.candidates),
        rewards=group.rewards.values,
        dropped_because=keep.reasons[index],
        standing=standing.get(index),
    )
