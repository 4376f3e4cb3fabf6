"""Measures where an epoch's time goes, and what overlapping saves: our loop versus one organised like released code.

    python -m benchmarks.trainer [--epochs 6] [--out runs/bench-trainer] [key=value ...]

All loops train the same model on the same tasks with the same reward service, taking turns epoch by epoch, with equal
batches, optimizer and loss (including the reference term, as in Table 5). The reference loop encodes the conditioning
for every sample, requests rewards after all rollouts are done, and computes old and reference velocities through
unmerged adapters. `ahead` is our loop with the next epoch rolled out before waiting for this one's rewards
(max_staleness=1). Prints medians over the epochs after the first, and the ratios between loops within each epoch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import torch

from edit_r1.shared.config import load_config
from edit_r1.trainer.config import TrainConfig
from edit_r1.trainer.machine.progress import Display
from edit_r1.trainer.machine.seeding import derived_seed, generator
from edit_r1.trainer.mathematics.solvers import dpm_solver_2m
from edit_r1.trainer.models.base import Conditioning
from edit_r1.trainer.policy.lora import LoraPolicy
from edit_r1.trainer.rollout.velocity import velocity_given
from edit_r1.trainer.run.assembly import Run, assemble
from edit_r1.trainer.run.logbook import Stopwatch
from edit_r1.trainer.run.pending_epoch import PendingEpoch, begin_epoch
from edit_r1.trainer.run.preflight import preflight
from edit_r1.trainer.tasks.task_list import load_sources
from edit_r1.trainer.train import finish_epoch
from edit_r1.trainer.types import GroupPart, RolloutGroup, TaskGroup
from edit_r1.workbench import markdown
from edit_r1.worlds.shapes.demo import HERE, reward_service

STAGES = ("rollout", "reward_wait", "update", "monitor")
SETTINGS = ("nft.kl_weight=0.0001", "data.held_out=null", "checkpoint.every=0", "resume=none", "filter.rule=none")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-trainer"))
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        url = stack.enter_context(reward_service(arguments.out / "service.log", HERE / "judge"))
        runs = {}
        for name in ("ours", "ahead", "reference"):
            run_dir = arguments.out / f"{name}-{os.getpid()}"
            overrides = (*SETTINGS, f"reward.url={url}", f"run_dir={run_dir}", *arguments.overrides)
            config = load_config(TrainConfig, HERE / "nft.yaml", overrides)
            display = Display(visible=False)
            runs[name] = stack.enter_context(assemble(config, preflight(config, display.say), display))
        assert isinstance(runs["reference"].policy, LoraPolicy)
        runs["reference"].policy.merges = False
        seconds: dict[str, list[Mapping[str, float]]] = defaultdict(list)
        waiting = begin_epoch(runs["ahead"], 1)
        for epoch in range(1, arguments.epochs + 2):
            for name, run in runs.items():
                if name == "ahead":
                    pending, waiting = waiting, begin_epoch(run, epoch + 1)
                else:
                    pending = begin_epoch(run, epoch) if name == "ours" else reference_rollouts(run, epoch)
                finish_epoch(run, pending)
                seconds[name].append(dict(pending.watch.seconds))
    print(table({name: epochs[1:] for name, epochs in seconds.items()}))
    return 0


def reference_rollouts(run: Run, epoch: int) -> PendingEpoch:
    """An epoch's rollouts with the conditioning encoded per sample; rewards are requested after all of them."""
    config, watch = run.config, Stopwatch()
    groups = run.sampler.next_groups(epoch, config.groups_per_epoch)
    rollouts: list[RolloutGroup] = []
    with watch.time("rollout"):
        for start in range(0, len(groups), config.rollout.batch_groups):
            rollouts += _generate(run, groups[start : start + config.rollout.batch_groups])
    tickets = [
        run.queue.submit(
            one.group.task, one.sources, one.candidates, derived_seed(config.seed, "judge", epoch, one.group.index)
        )
        for one in rollouts
    ]
    return PendingEpoch(epoch, 0, run.sampler.state, list(groups), rollouts, tickets, watch=watch)


def _generate(run: Run, groups: tuple[TaskGroup, ...]) -> list[RolloutGroup]:
    config, family = run.config, run.family
    sources = [load_sources(group.task, run.choose_size) for group in groups]
    size, count = sources[0][0].size, config.group_size
    conditioning = Conditioning.concatenate(
        [
            family.encode([group.task.instruction], [images])
            for group, images in zip(groups, sources, strict=True)
            for _ in range(count)
        ]
    )
    draws = [
        generator(config.seed, "rollout", group.epoch, group.index, row) for group in groups for row in range(count)
    ]
    sigmas = family.sigmas(config.rollout.steps, size)
    with run.policy.use("old"):
        x0 = dpm_solver_2m(velocity_given(family, conditioning), family.initial_noise(draws, size), sigmas)
    pictures = family.decode(x0, size)
    return [
        RolloutGroup(
            GroupPart(group, range(count), groups[0].index * count),
            images,
            tuple(pictures[i * count : (i + 1) * count]),
            x0[i * count : (i + 1) * count],
            conditioning.select(torch.tensor([i * count])),
            sigmas,
        )
        for i, (group, images) in enumerate(zip(groups, sources, strict=True))
    ]


def table(seconds: Mapping[str, list[Mapping[str, float]]]) -> str:
    """Medians of each stage; idle is the share of time spent only waiting for rewards."""
    rows, ratios = [], []
    totals = {name: [sum(epoch.values()) for epoch in epochs] for name, epochs in seconds.items()}
    for name, epochs in seconds.items():
        idle = median(epoch["reward_wait"] / total for epoch, total in zip(epochs, totals[name], strict=True))
        cells = [f"{median(epoch.get(stage, 0.0) for epoch in epochs):.2f}" for stage in STAGES]
        rows.append((name, *cells, f"{median(totals[name]):.2f}", f"{idle:.1%}"))
    for name in ("ours", "ahead"):
        found = [slow / fast for slow, fast in zip(totals["reference"], totals[name], strict=True)]
        ratios.append(f"reference / {name}: {median(found):.2f} ({min(found):.2f} to {max(found):.2f})")
    headings = ("loop", *(f"{stage.replace('_', ' ')} s" for stage in STAGES), "epoch s", "idle")
    return f"{markdown.table(headings, rows)}\n\n{'; '.join(ratios)}."


if __name__ == "__main__":
    sys.exit(main())
