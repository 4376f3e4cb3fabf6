"""One evaluation: every held-out task is edited once with fixed noise and scored by the service and custom metrics.

The noise of a task depends only on the evaluation seed and the task's position, so before and after are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import torch
from PIL import Image

from edit_r1.shared.errors import RewardServiceUnavailable
from edit_r1.trainer.held_out.metrics import Metric, measure
from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.machine.seeding import generator
from edit_r1.trainer.mathematics.sizes import ChooseSize
from edit_r1.trainer.mathematics.solvers import euler
from edit_r1.trainer.models.base import ModelFamily
from edit_r1.trainer.models.sampling import TrueCfg
from edit_r1.trainer.policy.base import Policy, PolicyName
from edit_r1.trainer.records.records import EvaluatedTask, Evaluation
from edit_r1.trainer.rewards.reward_queue import RewardQueue, Ticket, collect_together
from edit_r1.trainer.rollout.rollout import by_layout
from edit_r1.trainer.rollout.velocity import sampling_velocity
from edit_r1.trainer.tasks.task_list import load_sources
from edit_r1.trainer.types import EditTask, Rewards

Pictures = dict[int, tuple[Image.Image, Image.Image]]
"""(first source, edited) by task index."""
Edits = dict[int, tuple[tuple[Image.Image, ...], Image.Image]]
"""(sources, edited) by task index, in the order of submission."""
Part = list[tuple[int, EditTask, tuple[Image.Image, ...]]]
"""(task index, task, sources), all of one layout."""


def evaluate(
    family: ModelFamily,
    policy: Policy,
    name: PolicyName,
    tasks: Sequence[EditTask],
    *,
    queue: RewardQueue,
    metrics: Mapping[str, Metric],
    processes: Processes,
    epoch: int,
    num_steps: int,
    choose_size: ChooseSize,
    batch_size: int,
    seed: int,
    num_pictures: int,
    method: str | None = None,
    reward_names: Collection[str] = (),
    true_cfg: TrueCfg | None = None,
    on_batch: Callable[[int], None] = lambda _: None,
) -> tuple[Evaluation, Pictures]:
    """Edit all tasks with one policy using Euler steps; the evaluation is the same on every process.

    num_pictures: number of tasks whose images are returned, on the main process only. method: scoring method instead of
    the reward's. reward_names: parts of the reward
    that are recorded as metrics `reward/NAME`. on_batch: called with the number of tasks done. Raises
    RewardServiceUnavailable when no edit got a score, and Stopped between batches.
    """
    mine = processes.share(list(enumerate(tasks)), batch_size)
    edits: Edits = {}
    tickets: list[Ticket] = []
    # A sharded forward needs all processes: a process with no part left edits this one and discards the result.
    company = next(_parts([(0, tasks[0])], 1, choose_size))
    for part in processes.in_step(_parts(mine, batch_size, choose_size), together=policy.sharded):
        with policy.use(name):
            made = _edit(family, part or company, num_steps, seed, true_cfg)
        for (index, task, sources), edit in zip(part or (), made, strict=False):
            edits[index] = (sources, edit)
            tickets.append(queue.submit(task, sources, [edit], seed=index, method=method))
        on_batch(len(part or ()))
    rewards = collect_together(queue, tickets, processes)
    records = [
        _record(
            index,
            tasks[index],
            reward.values[0],
            _parts_of(reward, reward_names) | measure(metrics, tasks[index], edited),
        )
        for (index, (_, edited)), reward in zip(edits.items(), rewards, strict=True)
    ]
    everyones = sorted(processes.gather(records), key=lambda record: record.index)
    failures = processes.gather([failure for reward in rewards for failure in reward.failures])
    if all(record.reward is None for record in everyones):
        raise RewardServiceUnavailable(f"none of {len(everyones)} edits got a score; first failure: {failures[0]}")
    shown = [(index, (sources[0], edited)) for index, (sources, edited) in edits.items() if index < num_pictures]
    return Evaluation(epoch=epoch, tasks=tuple(everyones)), dict(processes.gather_on_main(shown))


def _parts(tasks: Sequence[tuple[int, EditTask]], batch_size: int, choose_size: ChooseSize) -> Iterator[Part]:
    """Sets of tasks to edit at once: one batch and one layout."""
    for start in range(0, len(tasks), batch_size):
        loaded = [(index, task, load_sources(task, choose_size)) for index, task in tasks[start : start + batch_size]]
        yield from by_layout(loaded, lambda one: one[2])


def _edit(family: ModelFamily, part: Part, num_steps: int, seed: int, true_cfg: TrueCfg | None) -> list[Image.Image]:
    return edit_by_euler(
        family,
        [task.instruction for _, task, _ in part],
        [images for _, _, images in part],
        [generator(seed, "evaluation", index) for index, _, _ in part],
        num_steps=num_steps,
        true_cfg=true_cfg,
    )


@torch.no_grad()
def edit_by_euler(
    family: ModelFamily,
    instructions: Sequence[str],
    sources: Sequence[Sequence[Image.Image]],
    generators: Sequence[torch.Generator],
    *,
    num_steps: int,
    true_cfg: TrueCfg | None = None,
) -> list[Image.Image]:
    """Edit each row with the active policy; all rows have one layout, row i uses noise from generators[i]."""
    size = sources[0][0].size
    conditioning = family.encode(instructions, sources)
    noise = family.initial_noise(generators, size)
    x0 = euler(sampling_velocity(family, conditioning, sources, true_cfg), noise, family.sigmas(num_steps, size))
    return family.decode(x0, size)


def _record(index: int, task: EditTask, reward: float | None, metrics: dict[str, float]) -> EvaluatedTask:
    return EvaluatedTask(index=index, instruction=task.instruction, task=task.task, reward=reward, metrics=metrics)


def _parts_of(rewards: Rewards, names: Collection[str]) -> dict[str, float]:
    """The named parts of one edit's reward, as metrics; those that are missing are left out."""
    return {f"reward/{name}": value for name, value in rewards.parts[0].items() if name in names}
