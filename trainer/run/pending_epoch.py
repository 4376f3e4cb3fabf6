"""The first half of an epoch: tasks are drawn, rolled out and submitted; later their scores are collected.

`begin_epoch` returns a `PendingEpoch`, `collect_scores` its scores. Other epochs may begin in between
(`max_staleness`); nothing here changes a weight.
Legend: P groups per epoch over all processes (including replacements added later), G candidates per group.
"""
# ruff: noqa: N815 - field names include their dimensions, as argument names do

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from edit_r1.shared.errors import RewardServiceUnavailable
from edit_r1.trainer.machine.seeding import derived_seed
from edit_r1.trainer.mathematics.filtering import group_statistics
from edit_r1.trainer.rewards.reward_queue import Ticket, collect_together
from edit_r1.trainer.rollout.rollout import roll_out
from edit_r1.trainer.rollout.units import units_of
from edit_r1.trainer.run.assembly import Run
from edit_r1.trainer.run.logbook import Stopwatch
from edit_r1.trainer.run.true_cfg import rollout_true_cfg
from edit_r1.trainer.tasks.group_sampler import SamplerState
from edit_r1.trainer.types import GroupPart, RolloutGroup, ScoredGroup, TaskGroup

PartValues = tuple[GroupPart, Sequence[float | None]]
"""One value per candidate of a part; None where missing."""


@dataclass
class PendingEpoch:
    """An epoch whose rollouts are done and whose scores are pending."""

    epoch: int
    staleness: int
    """Number of epochs still to be finished before it, by which its old policy will lag behind."""
    sampler_before: SamplerState
    """State of the sampler before this epoch."""
    groups: list[TaskGroup] = field(default_factory=list)
    """Groups of all processes."""
    rollouts: list[RolloutGroup] = field(default_factory=list)
    """Rollouts of this process."""
    tickets: list[Ticket] = field(default_factory=list)
    """One per rollout."""
    second_tickets: dict[int, Ticket] = field(default_factory=dict)
    """Tickets of rollouts scored by the second method, by position in `rollouts`."""
    watch: Stopwatch = field(default_factory=Stopwatch)


@dataclass(frozen=True)
class Scores:
    """Collected scores, the same on every process except for `scored`."""

    scored: Sequence[ScoredGroup]
    """This process's rollouts."""
    rewards_P_G: Tensor
    """float64 [P, G], NaN where missing."""
    components: Mapping[str, Tensor]
    """Separately normalised rewards (terms, or components of a composite), in the form of the rewards; empty when
    there are none."""
    second_P_G: Tensor | None
    """Scores of the second method, NaN except for a few groups; None when it is disabled."""

    @property
    def separate(self) -> Mapping[str, Tensor]:
        """The rewards that are filtered and normalised one by one: the components, or else the reward itself."""
        return self.components or {"reward": self.rewards_P_G}


def begin_epoch(run: Run, epoch: int) -> PendingEpoch:
    """Draw the epoch's tasks, roll them out and submit them; scoring continues in the background."""
    pending = PendingEpoch(epoch, staleness=epoch - 1 - run.epoch, sampler_before=run.sampler.state)
    _extend(run, pending, run.config.groups_per_epoch)
    return pending


def collect_scores(run: Run, pending: PendingEpoch) -> Scores:
    """Wait for the scores; groups with too many missing are replaced, at most `filter.refill_rounds` times.

    Raises RewardServiceError when the service stays unreachable, rejects a request or fails on too many candidates.
    """
    settings = run.config.filter
    scores = _collect(run, pending)
    _break_circuit(run, scores)
    for _ in range(settings.refill_rounds):
        num_lacking = run.config.groups_per_epoch - _num_with_quorum(scores.rewards_P_G, settings.quorum)
        if not num_lacking:
            break
        run.display.say(f"epoch {pending.epoch}: replacing {num_lacking} groups with too many missing scores")
        _extend(run, pending, num_lacking)
        scores = _collect(run, pending)
    return scores


def _extend(run: Run, pending: PendingEpoch, count: int) -> None:
    """Add `count` groups; what has been generated is scored while the rest is generated."""
    config = run.config
    added = run.sampler.next_groups(pending.epoch, count, start=len(pending.groups))
    pending.groups += added
    units = units_of(
        added, group_size=config.group_size, batch_groups=config.rollout.batch_groups, parts=run.group_parts
    )
    num_mine = sum(map(len, run.processes.share(units, 1)))
    with pending.watch.time("rollout"), run.display.bar("rollout", num_mine) as advance:
        for rollout in roll_out(
            run.family,
            run.policy,
            units,
            num_steps=config.rollout.steps,
            noise_level=run.loss.noise_level,
            choose_size=run.choose_size,
            seed=config.seed,
            processes=run.processes,
            true_cfg=rollout_true_cfg(config),
        ):
            group = rollout.group
            judge_seed = derived_seed(config.seed, "judge", group.epoch, group.index)
            pending.tickets.append(run.queue.submit(group.task, rollout.sources, rollout.candidates, judge_seed))
            if config.monitor.second_method and group.index < config.monitor.second_groups:
                pending.second_tickets[len(pending.rollouts)] = run.queue.submit(
                    group.task, rollout.sources, rollout.candidates, judge_seed, config.monitor.second_method
                )
            pending.rollouts.append(rollout)
            advance()


def _collect(run: Run, pending: PendingEpoch) -> Scores:
    with pending.watch.time("reward_wait"):
        first, second = pending.tickets, pending.second_tickets
        collected = collect_together(run.queue, [*first, *second.values()], run.processes)
    scored = [ScoredGroup(rollout, one) for rollout, one in zip(pending.rollouts, collected[: len(first)], strict=True)]
    num_groups = len(pending.groups)
    seconds = [
        (pending.rollouts[row].part, one.values) for row, one in zip(second, collected[len(first) :], strict=True)
    ]
    return Scores(
        scored,
        _gather(run, num_groups, [(one.rollout.part, one.rewards.values) for one in scored]),
        {
            name: _gather(
                run, num_groups, [(one.rollout.part, [part.get(name) for part in one.rewards.parts]) for one in scored]
            )
            for name in run.component_weights
        },
        _gather_second(run, num_groups, seconds) if run.config.monitor.second_method else None,
    )


def _gather(run: Run, num_groups: int, own: Iterable[PartValues]) -> Tensor:
    """Values of all processes, float64 [P, G], NaN where missing."""
    own_P_G = torch.zeros(num_groups, run.config.group_size, dtype=torch.float64)
    for part, values in own:
        row = [float("nan") if value is None else value for value in values]
        own_P_G[part.group.index, list(part.candidates)] = torch.tensor(row, dtype=torch.float64)
    return run.processes.sum(own_P_G)


def _gather_second(run: Run, num_groups: int, own: Iterable[PartValues]) -> Tensor:
    """Second scores of all processes, NaN also for groups that were not scored."""
    second_P_G = _gather(run, num_groups, own)
    second_P_G[run.config.monitor.second_groups :] = float("nan")
    return second_P_G


def _break_circuit(run: Run, scores: Scores) -> None:
    """Raises RewardServiceUnavailable when too many scores are missing to trust the rest."""
    missing, limit = float(scores.rewards_P_G.isnan().double().mean()), run.config.reward.max_missing_fraction
    if missing > limit:
        failures = run.processes.gather([failure for group in scores.scored for failure in group.rewards.failures])
        raise RewardServiceUnavailable(
            f"{missing:.0%} of {scores.rewards_P_G.numel()} candidates got no score, more than "
            f"reward.max_missing_fraction = {limit:g}; first failure: {failures[0]}"
        )


def _num_with_quorum(rewards_P_G: Tensor, quorum: int) -> int:
    return int((group_statistics(rewards_P_G).num_scored_P >= quorum).sum())
