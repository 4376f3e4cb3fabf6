"""The report of a run: one self-contained HTML file and summary.json, built from the run directory alone.

Reads metrics, evaluations and rollouts with their images; writes RUN_DIR/report.html and RUN_DIR/summary.json.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup

from edit_r1.shared import images
from edit_r1.shared.files import write_json, write_text
from edit_r1.trainer.config import CONFIG_NAME
from edit_r1.trainer.mathematics.alarms import ALARMS
from edit_r1.trainer.records.metrics_log import read_metrics
from edit_r1.trainer.records.records import (
    EvaluatedTask,
    Evaluation,
    ShownGroup,
    ShownRollouts,
    read_evaluations,
    read_rollouts,
    read_versions,
)
from edit_r1.trainer.report import pages
from edit_r1.trainer.report.charts import Series, line_chart

REPORT_NAME, SUMMARY_NAME = "report.html", "summary.json"
_TEMPLATE = Path(__file__).with_name("report.html")
_CHARTS: Sequence[tuple[str, tuple[tuple[str, str], ...]]] = (
    ("Rollout reward", (("reward/mean", "mean"), ("reward/std", "std"))),
    ("Spread within groups", (("reward/group_std", "std"),)),
    ("Groups kept by the filter", (("filter/kept_fraction", "kept fraction"),)),
    (
        "Missing scores and score mass",
        (("reward/missing_fraction", "missing"), ("reward/score_mass", "mass")),
    ),
    (
        "Second method on the same edits",
        (("reward/second_mean", "second"), ("reward/second_gap", "reward minus second")),
    ),
    ("Distance of the unedited half from the source", (("edit/unedited_distance", "unedited half"),)),
    ("Mean squared velocity difference to the base", (("policy/kl_to_base", "policy"),)),
    ("Loss", (("nft/policy_loss", "policy"), ("grpo/policy_loss", "policy"))),
    ("Gradient norm", (("optimizer/grad_norm", "before clipping"),)),
    (
        "Seconds per epoch",
        (
            ("time/rollout_seconds", "rollout"),
            ("time/reward_wait_seconds", "reward wait"),
            ("time/update_seconds", "update"),
        ),
    ),
)


@dataclass(frozen=True)
class Comparison:
    """One row of the before/after table; None where there was no score."""

    name: str
    before: float | None
    after: float | None

    @property
    def change(self) -> float | None:
        """Difference after - before; None when either is missing."""
        return None if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True)
class Alarm:
    """An alarm that was raised during the run."""

    name: str
    meaning: str
    epochs: str


@dataclass(frozen=True)
class Candidate:
    """One candidate image with its reward."""

    picture: str
    reward: float | None


@dataclass(frozen=True)
class GroupCard:
    """A group of candidates, best first, missing scores last."""

    group: ShownGroup
    source: str
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Ends:
    """The first and the last evaluation of a run, restricted to common tasks and metrics (a resumed run may differ)."""

    before_dir: Path
    """Directory of the first evaluation's images."""
    before: Evaluation
    after_dir: Path
    after: Evaluation
    """The same tasks in the same order."""


class RunRecord:
    """Everything recorded in a run directory, read on demand."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl."""
        return read_metrics(self.run_dir)

    @cached_property
    def evaluations(self) -> list[tuple[Path, Evaluation]]:
        """Evaluations by epoch, with the directory of their images."""
        return read_evaluations(self.run_dir)

    @cached_property
    def ends(self) -> Ends | None:
        """The first and the last evaluation; None when evaluation is off."""
        if not self.evaluations:
            return None
        (first_dir, first), (last_dir, last) = self.evaluations[0], self.evaluations[-1]
        return Ends(first_dir, _common(first, last), last_dir, _common(last, first))

    @cached_property
    def rollouts(self) -> list[tuple[Path, ShownRollouts]]:
        """Rollouts by epoch, with the directory of their images."""
        return read_rollouts(self.run_dir)


def write(run_dir: Path, seconds: float) -> dict[str, Any]:
    """Write report.html and summary.json; returns the summary.

    The summary holds `before` and `after` (mean reward and every evaluation metric on the held-out tasks, null when
    evaluation is off), the report's path and the run's seconds.
    """
    record = RunRecord(run_dir)
    write_text(run_dir / REPORT_NAME, render(record, seconds))
    summary = {
        "before": record.ends.before.means() if record.ends else None,
        "after": record.ends.after.means() if record.ends else None,
        "report": str(run_dir / REPORT_NAME),
        "seconds": round(seconds, 1),
    }
    write_json(run_dir / SUMMARY_NAME, summary)
    return summary


def render(record: RunRecord, seconds: float) -> str:
    """The report as HTML with embedded images and charts."""
    return pages.render(
        _TEMPLATE,
        run_dir=str(record.run_dir),
        seconds=seconds,
        num_epochs=max((line["epoch"] for line in record.metrics), default=0),
        overall=_compare(record.ends.before, record.ends.after) if record.ends else [],
        by_task=_by_type(record.ends) if record.ends else {},
        charts=_charts(record),
        pairs=_pairs(record.ends) if record.ends else [],
        rollouts=[(rollout.epoch, _cards(directory, rollout)) for directory, rollout in record.rollouts],
        alarms=_alarms(record.metrics),
        versions=read_versions(record.run_dir),
        config=(record.run_dir / CONFIG_NAME).read_text(encoding="utf-8"),
    )


def _alarms(metrics: Sequence[Mapping[str, Any]]) -> list[Alarm]:
    """Alarms that were raised at any time, with their epochs."""
    epochs = {name: [int(line["epoch"]) for line in metrics if line.get(f"alarm/{name}")] for name in ALARMS}
    return [Alarm(name, ALARMS[name], _spans(on)) for name, on in epochs.items() if on]


def _spans(numbers: Sequence[int]) -> str:
    """1, 2, 3, 7 as "1-3, 7"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _common(evaluation: Evaluation, other: Evaluation) -> Evaluation:
    """The evaluation restricted to the tasks and metrics that `other` also has."""
    known = {_key(task): task.metrics.keys() for task in other.tasks}
    tasks = []
    for task in evaluation.tasks:
        if (key := _key(task)) in known:
            metrics = {name: value for name, value in task.metrics.items() if name in known[key]}
            tasks.append(task.model_copy(update={"metrics": metrics}))
    return evaluation.model_copy(update={"tasks": tuple(tasks)})


def _key(task: EvaluatedTask) -> tuple[int, str, str | None]:
    return task.index, task.instruction, task.task


def _compare(before: Evaluation, after: Evaluation) -> list[Comparison]:
    means = after.means()
    return [Comparison(name, value, means.get(name)) for name, value in before.means().items()]


def _by_type(ends: Ends) -> dict[str, list[Comparison]]:
    """Task type -> rows; empty when the task list has no types."""
    names = sorted({task.task for task in ends.before.tasks if task.task is not None})
    return {name: _compare(ends.before.of_type(name), ends.after.of_type(name)) for name in names}


def _charts(record: RunRecord) -> list[tuple[str, Markup]]:
    evaluated = sorted({name for line in record.metrics for name in line if name.startswith("eval/")})
    held_out = [_series(record.metrics, name, name.removeprefix("eval/"), marked=True) for name in evaluated]
    charts = [("Held-out tasks", held_out)]
    charts += [(title, [_series(record.metrics, key, name) for key, name in lines]) for title, lines in _CHARTS]
    charts[2:2] = _charts_by_reward(record.metrics)
    # The charts escape their own texts; Markup keeps the template from escaping them again.
    return [(title, Markup(svg)) for title, lines in charts if (svg := line_chart(lines, "epoch"))]  # noqa: S704


def _charts_by_reward(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Series]]]:
    """Mean, spread and missing share of rewards that were normalised separately; without any, the charts are empty."""
    found = (re.fullmatch(r"reward/(.+)_missing_fraction", name) for line in metrics for name in line)
    names = sorted({match[1] for match in found if match})
    kinds = (("Mean of each reward", "mean"), ("Standard deviation of each reward", "std"))
    return [
        (title, [_series(metrics, f"reward/{name}_{kind}", name) for name in names])
        for title, kind in (*kinds, ("Missing scores of each reward", "missing_fraction"))
    ]


def _series(metrics: Sequence[Mapping[str, Any]], key: str, name: str, *, marked: bool = False) -> Series:
    points = tuple((float(line["epoch"]), float(line[key])) for line in metrics if line.get(key) is not None)
    return Series(name.replace("_", " "), points, marked)


def _pairs(ends: Ends) -> list[dict[str, Any]]:
    """Held-out tasks with images: source, before and after, with their evaluation results."""
    return [
        {
            "instruction": before.instruction,
            "source": _picture(ends.before_dir / before.source),
            "before": (_picture(ends.before_dir / before.edited), before),
            "after": (_picture(ends.after_dir / after.edited), after),
        }
        for before, after in zip(ends.before.tasks, ends.after.tasks, strict=True)
        if before.source and before.edited and after.edited
    ]


def _cards(directory: Path, rollouts: ShownRollouts) -> list[GroupCard]:
    return [_card(directory, group) for group in rollouts.groups]


def _card(directory: Path, group: ShownGroup) -> GroupCard:
    candidates = tuple(
        Candidate(_picture(directory / group.candidates[index]), group.rewards[index]) for index in group.best_first
    )
    return GroupCard(group, _picture(directory / group.source), candidates)


def _picture(path: Path) -> str:
    return images.data_url(path.read_bytes())
