"""`edit-r1 doctor`: will this configuration run, will it fit, how long will an epoch take, and what to change if not.

Takes a configuration and the GPUs' figures and prints one line per check. No weights are loaded, except by `rehearse`,
which runs one group through the actual training loop.
"""

from __future__ import annotations

import math
import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from edit_r1.shared.errors import ConfigError, EditR1Error
from edit_r1.shared.golden.edits import low_mass
from edit_r1.shared.replicas import Replicas
from edit_r1.trainer.config import TrainConfig, check_world_size, group_parts
from edit_r1.trainer.doctor.estimates import load_of_rewards
from edit_r1.trainer.doctor.judge import judge_fits, judge_shape
from edit_r1.trainer.doctor.needs import Finding, Mark, Needs, driver
from edit_r1.trainer.doctor.planning import Gpus, num_parameters
from edit_r1.trainer.machine.progress import Display
from edit_r1.trainer.models.base import ModelFamily
from edit_r1.trainer.records.metrics_log import read_metrics
from edit_r1.trainer.rewards.terms import terms_of
from edit_r1.trainer.run.components import build_queue, choose_size, cut_instructions, load_family
from edit_r1.trainer.run.preflight import Inputs, check_data, check_services, check_trackers, check_whole_groups
from edit_r1.trainer.run.resuming import find_start
from edit_r1.trainer.tasks.task_list import TaskList, load_sources, longest_instructions
from edit_r1.trainer.types import EditTask

_TASKS_LOOKED_AT = 100
"""Number of tasks read to determine the edit sizes."""
_TIMED_GROUPS = 6
"""Groups scored at once to time the service."""
_ANSWER_SECONDS = 5.0
"""How long the service may take to say whether it is ready."""
_SCORING_SECONDS = 300.0
"""How long it may take to score the timed groups."""


class Doctor:
    """Runs the checks in order; a failed check is reported and the remaining ones still run."""

    def __init__(self, config: TrainConfig, gpus: Gpus, tell: Callable[[str], None], judge: str | None = None) -> None:
        self._config, self._gpus, self._tell, self._judge = config, gpus, tell, judge
        self._scores_per_second: float | None = None
        self._marks: Counter[str] = Counter()

    @property
    def num_failures(self) -> int:
        """Number of failed checks so far."""
        return self._marks["FAIL"]

    @property
    def verdict(self) -> str:
        """One-line summary of all checks so far."""
        failures, warnings = self.num_failures, self._marks["warn"]
        if failures:
            return f"{failures} check{'s' if failures > 1 else ''} failed"
        return f"ready to run, {warnings} warning{'s' if warnings > 1 else ''}" if warnings else "all checks passed"

    def examine(self) -> None:
        """Run all checks that need no weights."""
        config = self._config
        with self._check("processes and run directory"):
            check_world_size(config, self._gpus.count)
            parts = group_parts(config, self._gpus.count)
            start = find_start(config, self._tell)
            divided = f", each group in {parts} parts" if parts > 1 else ""
            resumes = "resumes" if start else "starts fresh"
            self._say("ok", f"{self._gpus.count} processes{divided}; {config.run_dir} {resumes}")
        with self._check("packages"):
            check_trackers(config)
        tasks: TaskList | None = None
        held_out: Sequence[EditTask] = ()
        self._show(driver())
        with self._check("data"):
            tasks, held_out, _ = check_data(config, lambda line: self._say("ok", line))
        family: ModelFamily | None = None
        with self._check("model"):
            family = load_family(config, torch.device("cpu"), without_weights=True)
            self._say("ok", f"{config.model.family} at {config.model.path}: {_parameters(family)}")
            choose = choose_size(config, family)
            if tasks:
                self._instructions(family, tasks, held_out)
                own = {source.size() for task in tasks[:_TASKS_LOOKED_AT] for source in task.sources}
                cut = max(map(choose.cut_fraction, own))
                told = f"edit sizes: {', '.join(f'{w}x{h}' for w, h in sorted(set(map(choose, own))))}"
                self._say("ok", told + (f"; up to {cut:.0%} of an image is cut off (model.aspect)" if cut else ""))
        num_sources = tasks.summary.num_sources[1] if tasks else 1
        needs = None if family is None else Needs(family, config, self._gpus, num_sources)
        if needs is not None:
            for findings in (needs.gpu_memory(), needs.main_memory(), needs.disk(), needs.time()):
                self._show(findings)
        if self._judge is not None:
            with self._check("judge"):
                self._show(judge_fits(self._judge, judge_shape(self._judge), self._gpus))
        with self._check("reward service"):
            at_once = _with_reward(config, wait_seconds=0.0, timeout_seconds=_ANSWER_SECONDS)
            services = check_services(at_once, lambda line: self._say("..", line))
            check_whole_groups(config, services, group_parts(config, self._gpus.count))
            if tasks and family is not None and needs is not None:
                self._rehearse_scoring(tasks, family)
                seconds = needs.epoch_seconds(self._gpus.teraflops)
                assumed = f" at {self._gpus.teraflops:g} TFLOP/s" if self._gpus.rate == "assumed" else ""
                self._rewards_keep_up(seconds["rollout"], seconds["update"], f"estimated{assumed}")

    def rehearse(self) -> None:
        """Run one group through the whole loop, with weights, and extrapolate the time of an epoch."""
        with self._check("rehearsal"), tempfile.TemporaryDirectory() as folder:
            from edit_r1.trainer.train import run_training  # noqa: PLC0415 - it imports everything

            config = _one_group(self._config, Path(folder))
            train, _, _ = check_data(config, lambda _: None)
            services = check_services(config, lambda _: None)
            run_training(config, Inputs(train, (), {}, services), Display(visible=False))
            (line,) = read_metrics(config.run_dir)
            rollout, update = line["time/rollout_seconds"], line["time/update_seconds"]
            share = self._config.groups_per_epoch / self._gpus.count
            epoch = (rollout + update) * share
            self._say(
                "ok",
                f"one group: rollout {rollout:.1f} s, reward wait {line['time/reward_wait_seconds']:.1f} s, update "
                f"{update:.1f} s, rewards {line['reward/mean']:.3f} ± {line['reward/std']:.3f}; peak memory "
                f"{_peak_gigabytes():.1f} GB; an epoch would take about {epoch:.0f} s on {self._gpus}",
            )
            self._rewards_keep_up(rollout * share, update * share, "measured")

    @contextmanager
    def _check(self, name: str) -> Iterator[None]:
        try:
            yield
        except EditR1Error as error:
            self._say("FAIL", f"{name}: {error}")

    def _say(self, mark: Mark, line: str) -> None:
        self._marks[mark] += 1
        self._tell(f"{mark:>4}  {line}")

    def _show(self, findings: Iterable[Finding]) -> None:
        for mark, line in findings:
            self._say(mark, line)

    def _instructions(self, family: ModelFamily, tasks: TaskList, held_out: Sequence[EditTask]) -> None:
        warning = cut_instructions(family, longest_instructions(tasks, held_out))
        self._say("warn" if warning else "ok", warning or "every instruction fits the text encoder")

    def _rehearse_scoring(self, tasks: Sequence[EditTask], family: ModelFamily) -> None:
        """Score groups of real data: one of unedited sources, then several at once with slight noise, timed."""
        config, size = self._config, choose_size(self._config, family)
        untouched = load_sources(tasks[0], size)
        rng, timed = np.random.default_rng(0), []
        for i in range(1, _TIMED_GROUPS + 1):
            task = tasks[i % len(tasks)]
            sources = load_sources(task, size)
            timed.append((task, sources, [_with_grain(sources[0], rng) for _ in range(config.group_size)]))
        bounded = _with_reward(config, deadline_seconds=_SCORING_SECONDS)
        with build_queue(bounded, lambda line: self._say("..", line)) as queue:
            (rewards,) = queue.collect([queue.submit(tasks[0], untouched, untouched[:1] * config.group_size, seed=0)])
            started = time.perf_counter()
            queue.collect([queue.submit(task, sources, candidates, seed=0) for task, sources, candidates in timed])
            self._scores_per_second = _TIMED_GROUPS * config.group_size / (time.perf_counter() - started)
        present = [value for value in rewards.values if value is not None]
        if not present:
            raise ConfigError(f"no candidate of the first task got a score; first failure: {rewards.failures[0]}")
        masses = [mass for mass in rewards.masses if mass is not None]
        limit = config.monitor.min_score_mass
        if masses and limit is not None and statistics.fmean(masses) < limit:
            methods = ", ".join(dict.fromkeys(term.method for term in terms_of(config.reward)))
            raise ConfigError(f"{low_mass(methods, statistics.fmean(masses), limit)} (limit: monitor.min_score_mass)")
        mass = f", score mass {statistics.fmean(masses):.3f}" if masses else ""
        self._say(
            "ok",
            f"scored a group of {len(rewards.values)} ({len(present)} scores): the unedited source of "
            f"{tasks[0].instruction!r} scores {statistics.fmean(present):.3f}{mass}",
        )

    def _rewards_keep_up(self, rollout_seconds: float, update_seconds: float, how: str) -> None:
        """Check whether the service, at the measured speed, can score an epoch while the trainer does other work."""
        if self._scores_per_second is None:
            return
        config, services = self._config, [Replicas(term.url).urls for term in terms_of(self._config.reward)]
        replicas = len(services[0])
        load = load_of_rewards(
            config.groups_per_epoch * config.group_size,
            self._scores_per_second,
            rollout_seconds + (update_seconds if config.max_staleness else 0.0),
        )
        meanwhile = "rollout and update" if config.max_staleness else "rollout"
        several = len(services) > 1
        source = f"the services of {len(services)} rewards together" if several else f"{replicas} replica(s)"
        told = (
            f"{self._scores_per_second:,.1f} scores/s from {source}: scoring an epoch's {load.candidates} "
            f"candidates takes {load.scoring_seconds:,.1f} s, {meanwhile} {load.free_seconds:,.1f} s ({how})"
        )
        if load.share <= 1:
            self._say("ok", f"{told}; the service is {load.share:.0%} busy")
            return
        remedy = "" if config.max_staleness else ", or max_staleness=1"
        more = f"{load.share:.1f} times as many of the slowest" if several else f"{math.ceil(load.share * replicas)}"
        self._say("warn", f"{told}; the trainer would wait: use {more} replicas{remedy}")


def _with_reward(config: TrainConfig, **limits: float) -> TrainConfig:
    """The configuration with these limits of `reward` in place of larger ones."""
    lower = {name: min(getattr(config.reward, name), limit) for name, limit in limits.items()}
    return config.model_copy(update={"reward": config.reward.model_copy(update=lower)})


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
    """The image with noise too weak to matter to the judge but enough to miss its cache."""
    pixels = np.asarray(image, np.int16)
    return Image.fromarray(np.clip(pixels + rng.integers(-1, 2, pixels.shape), 0, 255).astype(np.uint8))
