"""The report of a run: one self-contained HTML file and summary.json, made from the run directory alone.

Enters: metrics, evaluations and rollouts with their pictures. Leaves: RUN_DIR/report.html, RUN_DIR/summary.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup

from shared import images
from trainer.charts import Series, line_chart
from trainer.metrics_log import read_metrics
from trainer.monitors import ALARMS
from trainer.records import Evaluation, ShownGroup, ShownRollouts, read_evaluations, read_rollouts, read_versions

REPORT_NAME, SUMMARY_NAME = "report.html", "summary.json"
_CHARTS: Sequence[tuple[str, tuple[tuple[str, str], ...]]] = (
    ("Reward of the rollouts", (("reward/mean", "mean"), ("reward/std", "std"))),
    ("Spread within groups", (("reward/group_std", "std"),)),
    ("Groups kept by the filter", (("filter/kept_fraction", "kept fraction"),)),
    (
        "Scores that are missing, or hardly meant",
        (("reward/missing_fraction", "missing"), ("reward/score_mass", "mass")),
    ),
    ("A second method on the same edits", (("reward/second_mean", "second"), ("reward/second_gap", "reward minus it"))),
    ("What should stay: distance from the source", (("edit/unedited_distance", "unedited half"),)),
    ("Distance from the base: mean squared velocity", (("policy/kl_to_base", "policy"),)),
    ("Loss", (("nft/policy_loss", "policy"), ("grpo/policy_loss", "policy"))),
    ("Gradient norm", (("optimizer/grad_norm", "before clipping"),)),
    (
        "Seconds an epoch",
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
        """What came of it: after - before."""
        return None if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True)
class Alarm:
    """One that was on."""

    name: str
    meaning: str
    epochs: str


@dataclass(frozen=True)
class Candidate:
    """One picture of a group with its reward."""

    picture: str
    reward: float | None


@dataclass(frozen=True)
class GroupCard:
    """A group of candidates, best first, missing scores last."""

    group: ShownGroup
    source: str
    candidates: tuple[Candidate, ...]


class RunRecord:
    """All that a run directory tells."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl."""
        return read_metrics(self.run_dir)

    @cached_property
    def evaluations(self) -> list[tuple[Path, Evaluation]]:
        """By epoch, with the directory of their pictures."""
        return read_evaluations(self.run_dir)

    @cached_property
    def rollouts(self) -> list[tuple[Path, ShownRollouts]]:
        """By epoch, with the directory of their pictures."""
        return read_rollouts(self.run_dir)


def write(run_dir: Path, seconds: float) -> dict[str, Any]:
    """Write report.html and summary.json; returns the summary.

    The summary holds `before` and `after` (mean reward and every evaluation metric on the held-out tasks, null when
    evaluation is off), the report's path and the run's seconds.
    """
    record = RunRecord(run_dir)
    (run_dir / REPORT_NAME).write_text(render(record, seconds), encoding="utf-8")
    summary = {
        "before": record.evaluations[0][1].means() if record.evaluations else None,
        "after": record.evaluations[-1][1].means() if record.evaluations else None,
        "report": str(run_dir / REPORT_NAME),
        "seconds": round(seconds, 1),
    }
    (run_dir / SUMMARY_NAME).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def render(record: RunRecord, seconds: float) -> str:
    """The report as HTML, pictures and charts inside."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(), trim_blocks=True
    )
    return environment.get_template("report.html").render(
        run_dir=str(record.run_dir),
        seconds=seconds,
        num_epochs=max((line["epoch"] for line in record.metrics), default=0),
        overall=_overall(record),
        by_task=_by_task(record),
        charts=_charts(record),
        pairs=_pairs(record),
        rollouts=[(rollout.epoch, _cards(directory, rollout)) for directory, rollout in record.rollouts],
        alarms=_alarms(record.metrics),
        versions=read_versions(record.run_dir),
        config=(record.run_dir / "config.yaml").read_text(encoding="utf-8"),
    )


def _alarms(metrics: Sequence[Mapping[str, Any]]) -> list[Alarm]:
    """The alarms that were on at some time, with the epochs."""
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


def _overall(record: RunRecord) -> list[Comparison]:
    if not record.evaluations:
        return []
    before, after = record.evaluations[0][1].means(), record.evaluations[-1][1].means()
    return [Comparison(name, before[name], after[name]) for name in before]


def _by_task(record: RunRecord) -> dict[str, list[Comparison]]:
    """Edit type -> rows like `_overall`'s; empty when the task list names no types."""
    if not record.evaluations:
        return {}
    first, last = (_split(record.evaluations[i][1]) for i in (0, -1))
    return {
        task: [Comparison(name, before, last[task].means()[name]) for name, before in evaluation.means().items()]
        for task, evaluation in sorted(first.items())
    }


def _split(evaluation: Evaluation) -> dict[str, Evaluation]:
    names = {task.task for task in evaluation.tasks if task.task is not None}
    return {
        name: evaluation.model_copy(update={"tasks": tuple(t for t in evaluation.tasks if t.task == name)})
        for name in names
    }


def _charts(record: RunRecord) -> list[tuple[str, Markup]]:
    evaluated = sorted({name for line in record.metrics for name in line if name.startswith("eval/")})
    held_out = [_series(record.metrics, name, name.removeprefix("eval/"), marked=True) for name in evaluated]
    charts = [("Held-out tasks", held_out)]
    charts += [(title, [_series(record.metrics, key, name) for key, name in lines]) for title, lines in _CHARTS]
    # The charts escape their own texts; Markup tells the template so.
    return [(title, Markup(svg)) for title, lines in charts if (svg := line_chart(lines, "epoch"))]  # noqa: S704


def _series(metrics: Sequence[Mapping[str, Any]], key: str, name: str, *, marked: bool = False) -> Series:
    points = tuple((float(line["epoch"]), float(line[key])) for line in metrics if line.get(key) is not None)
    return Series(name.replace("_", " "), points, marked)


def _pairs(record: RunRecord) -> list[dict[str, Any]]:
    """Held-out tasks with pictures: source, before, after, and what each was worth."""
    if not record.evaluations:
        return []
    (first_dir, first), (last_dir, last) = record.evaluations[0], record.evaluations[-1]
    return [
        {
            "instruction": before.instruction,
            "source": _picture(first_dir / before.source),
            "before": (_picture(first_dir / before.edited), before),
            "after": (_picture(last_dir / after.edited), after),
        }
        for before, after in zip(first.tasks, last.tasks, strict=False)
        if before.source and before.edited and after.edited
    ]


def _cards(directory: Path, rollouts: ShownRollouts) -> list[GroupCard]:
    return [_card(directory, group) for group in rollouts.groups]


def _card(directory: Path, group: ShownGroup) -> GroupCard:
    ranked = sorted(
        zip(group.candidates, group.rewards, strict=True), key=lambda pair: -1.0 if pair[1] is None else pair[1]
    )
    candidates = tuple(Candidate(_picture(directory / name), reward) for name, reward in reversed(ranked))
    return GroupCard(group, _picture(directory / group.source), candidates)


def _picture(path: Path) -> str:
    """A data: URL."""
    return images.data_url(path.read_bytes())
