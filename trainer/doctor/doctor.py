"""`edit-r1 doctor`: will this configuration run, will it fit, how long will an epoch take, and what to change if not.

Enters: a configuration and what is known of the GPUs. Leaves: lines for people, one a check. No weights are loaded;
`rehearse` is the exception: one group through the very loop that training is.
"""

from __future__ import annotations

import math
import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from edit_r1.shared.errors import ConfigError, EditR1Error
from edit_r1.shared.replicas import Replicas
from edit_r1.trainer.config import TrainConfig, check_world_size
from edit_r1.trainer.doctor.estimates import ModelShape, Plan, epoch_flops, load_of_rewards, memory
from edit_r1.trainer.doctor.planning import Gpus, num_parameters, plan_of, savings, shape_of
from edit_r1.trainer.machine.progress import Display
from edit_r1.trainer.models.base import ModelFamily
from edit_r1.trainer.records.metrics_log import read_metrics
from edit_r1.trainer.run.components import build_queue, choose_size, cut_instructions, load_family
from edit_r1.trainer.run.preflight import Inputs, check_data, check_service, check_trackers
from edit_r1.trainer.run.resuming import find_start
from edit_r1.trainer.tasks.task_list import image_size, load_sources
from edit_r1.trainer.types import EditTask

_USABLE = 0.92
"""Share of a GPU's memory that a run can count on."""
_TASKS_LOOKED_AT = 100
"""To see at which sizes edits are made."""
_TIMED_GROUPS = 6
"""Scored at once to see how fast the service is."""


class Doctor:
    """Checks one after another; a failure is told and the next check is made all the same."""

    def __init__(self, config: TrainConfig, gpus: Gpus, tell: Callable[[str], None]) -> None:
        self._config, self._gpus, self._tell = config, gpus, tell
        self._scores_per_second: float | None = None
        self._marks: Counter[str] = Counter()

    @property
    def num_failures(self) -> int:
        """Of the checks so far."""
        return self._marks["FAIL"]

    @property
    def verdict(self) -> str:
        """All checks so far, in a few words."""
        failures, warnings = self.num_failures, self._marks["warn"]
        if failures:
            return f"{failures} check{'s' if failures > 1 else ''} failed"
        return f"it will run; {warnings} warning{'s' if warnings > 1 else ''}" if warnings else "all is well"

    def examine(self) -> None:
        """All checks that need no weights."""
        config = self._config
        with self._check("processes and run directory"):
            check_world_size(config, self._gpus.count)
            start = find_start(config, self._tell)
            self._say("ok", f"{self._gpus.count} processes; {config.run_dir} {'resumes' if start else 'starts afresh'}")
        with self._check("packages"):
            check_trackers(config)
        tasks: Sequence[EditTask] = ()
        with self._check("data"):
            tasks, held_out, _ = check_data(config, lambda line: self._say("ok", line))
        family: ModelFamily | None = None
        with self._check("model"):
            family = load_family(config, torch.device("cpu"), without_weights=True)
            self._say("ok", f"{config.model.family} at {config.model.path}: {_parameters(family)}")
            choose = choose_size(config, family)
            if tasks:
                self._instructions(family, (*tasks, *held_out))
                seen = tasks[:_TASKS_LOOKED_AT]
                sizes = sorted({choose(image_size(path)) for task in seen for path in task.source_paths})
                self._say("ok", f"edits of {', '.join(f'{w}x{h}' for w, h in sizes)}")
        num_sources = max((len(task.source_paths) for task in tasks), default=1)
        if family is not None:
            with self._check("memory"):
                self._memory(family, num_sources)
        with self._check("reward service"):
            check_service(config, lambda line: self._say("..", line))
            if tasks and family is not None:
                self._rehearse_scoring(tasks, family)
                plan = plan_of(family, config, self._gpus, num_sources)
                seconds = self._epoch_seconds(shape_of(family, config), plan)
                self._rewards_keep_up(seconds["rollout"], seconds["update"], "estimated")

    def rehearse(self) -> None:
        """One group through the whole loop, with weights, and what an epoch will take by it."""
        with self._check("rehearsal"), tempfile.TemporaryDirectory() as folder:
            from edit_r1.trainer.train import run_training  # noqa: PLC0415 - it imports everything

            config = _one_group(self._config, Path(folder))
            train, _, _ = check_data(config, lambda _: None)
            service = check_service(config, lambda _: None)
            run_training(config, Inputs(train, (), {}, service), Display(visible=False))
            (line,) = read_metrics(config.run_dir)
            rollout, update = line["time/rollout_seconds"], line["time/update_seconds"]
            share = self._config.groups_per_epoch / self._gpus.count
            epoch = (rollout + update) * share
            self._say(
                "ok",
                f"one group: rollout {rollout:.1f} s, reward wait {line['time/reward_wait_seconds']:.1f} s, update "
                f"{update:.1f} s, rewards {line['reward/mean']:.3f} ± {line['reward/std']:.3f}; peak memory "
                f"{_peak_gigabytes():.1f} GB; so an epoch takes about {epoch:.0f} s on {self._gpus}",
            )
            self._rewards_keep_up(rollout * share, update * share, "measured")

    @contextmanager
    def _check(self, name: str) -> Iterator[None]:
        try:
            yield
        except EditR1Error as error:
            self._say("FAIL", f"{name}: {error}")

    def _say(self, mark: Literal["ok", "..", "warn", "FAIL"], line: str) -> None:
        self._marks[mark] += 1
        self._tell(f"{mark:>4}  {line}")

    def _instructions(self, family: ModelFamily, tasks: Sequence[EditTask]) -> None:
        warning = cut_instructions(family, {task.instruction for task in tasks})
        self._say("warn" if warning else "ok", warning or "every instruction is read to its end")

    def _memory(self, family: ModelFamily, num_sources: int) -> None:
        shape, plan = shape_of(family, self._config), plan_of(family, self._config, self._gpus, num_sources)
        parts = memory(shape, plan)
        self._tell(f"      memory on each of {self._gpus}, estimated:")
        for name, num_bytes in parts.items():
            if num_bytes:
                self._tell(f"      {num_bytes / 1e9:8.1f} GB  {name}")
        total, limit = sum(parts.values()) / 1e9, self._gpus.gigabytes * _USABLE
        seconds = self._epoch_seconds(shape, plan)
        self._say(
            "ok" if total <= limit else "FAIL",
            f"{total:.1f} GB of {limit:.1f} usable ({_USABLE:.0%} of {self._gpus.gigabytes:g})",
        )
        if total > limit:
            for advice in self._advice(family, num_sources, limit):
                self._tell(f"      {advice}")
        self._say(
            "ok",
            f"an epoch at {self._gpus.teraflops:.3g} TFLOP/s a {self._gpus.kind}, estimated: "
            f"rollout {seconds['rollout']:.0f} s, update {seconds['update']:.0f} s",
        )

    def _advice(self, family: ModelFamily, num_sources: int, limit: float) -> Iterator[str]:
        """What to change, one thing upon the other until it fits."""
        config = self._config
        for override, changed in savings(config, self._gpus.count):
            config = changed
            plan = plan_of(family, config, self._gpus, num_sources)
            total = sum(memory(shape_of(family, config), plan).values()) / 1e9
            yield f"{override} makes it {total:.1f} GB"
            if total <= limit:
                return
        yield "and still it does not fit: more or larger GPUs, or smaller pictures"

    def _epoch_seconds(self, shape: ModelShape, plan: Plan) -> dict[str, float]:
        rate = self._gpus.count * self._gpus.teraflops * 1e12
        return {name: flops / rate for name, flops in epoch_flops(shape, plan).items()}

    def _rehearse_scoring(self, tasks: Sequence[EditTask], family: ModelFamily) -> None:
        """Groups of real data over the wire: untouched sources, then several at once with a little grain, timed."""
        config, size = self._config, choose_size(self._config, family)
        untouched = load_sources(tasks[0], size)
        rng, timed = np.random.default_rng(0), []
        for i in range(1, _TIMED_GROUPS + 1):
            task = tasks[i % len(tasks)]
            sources = load_sources(task, size)
            timed.append((task, sources, [_with_grain(sources[0], rng) for _ in range(config.group_size)]))
        with build_queue(config, lambda line: self._say("..", line)) as queue:
            (rewards,) = queue.collect([queue.submit(tasks[0], untouched, untouched[:1] * config.group_size, seed=0)])
            started = time.perf_counter()
            queue.collect([queue.submit(task, sources, candidates, seed=0) for task, sources, candidates in timed])
            self._scores_per_second = _TIMED_GROUPS * config.group_size / (time.perf_counter() - started)
        present = [value for value in rewards.values if value is not None]
        if not present:
            raise ConfigError(f"no candidate of the first task got a score; the first: {rewards.failures[0]}")
        self._say(
            "ok",
            f"scored a group of {len(rewards.values)} ({len(present)} scores): the untouched source of "
            f"{tasks[0].instruction!r} is worth {statistics.fmean(present):.3f}",
        )

    def _rewards_keep_up(self, rollout_seconds: float, update_seconds: float, how: str) -> None:
        """Whether this service, as fast as it just was, scores an epoch while the trainer has other work."""
        if self._scores_per_second is None:
            return
        config, replicas = self._config, len(Replicas(self._config.reward.url).urls)
        load = load_of_rewards(
            config.groups_per_epoch * config.group_size,
            self._scores_per_second,
            rollout_seconds + (update_seconds if config.max_staleness else 0.0),
        )
        meanwhile = "rollout and update" if config.max_staleness else "rollout"
        told = (
            f"{self._scores_per_second:,.1f} scores/s from {replicas} replica(s): an epoch's {load.candidates} take "
            f"{load.scoring_seconds:,.1f} s, its {meanwhile} {load.free_seconds:,.1f} s ({how})"
        )
        if load.share <= 1:
            self._say("ok", f"{told}; the service is {load.share:.0%} busy")
            return
        remedy = "" if config.max_staleness else ", or max_staleness=1"
        self._say("warn", f"{told}; the trainer would wait: {math.ceil(load.share * replicas)} replicas{remedy}")


def _one_group(config: TrainConfig, folder: Path) -> TrainConfig:
    values = config.model_dump()
    values |= {"run_dir": folder / "run", "epochs": 1, "groups_per_epoch": 1, "optimizer_steps_per_epoch": 1}
    values["resume"], values["max_staleness"], values["trackers"] = "none", 0, ()
    values["filter"] |= {"rule": "none", "refill_rounds": 0}
    values["data"]["held_out"] = None
    values["reward"]["api_key"] = config.reward.api_key
    return TrainConfig.model_validate(values)


def _parameters(family: ModelFamily) -> str:
    counts = {
        "transformer": num_parameters(family.transformer),
        "text encoders": sum(map(num_parameters, family.text_encoders)),
        "VAE": num_parameters(family.vae),
    }
    parts = (f"{name} {n / 1e9:.3g} B" if n >= 1e9 else f"{name} {n / 1e6:.3g} M" for name, n in counts.items())
    return f"{', '.join(parts)} parameters"


def _peak_gigabytes() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _with_grain(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture, changed too little for a judge and enough for a cache."""
    pixels = np.asarray(image, np.int16)
    return Image.fromarray(np.clip(pixels + rng.integers(-1, 2, pixels.shape), 0, 255).astype(np.uint8))
