"""An alignment run as one HTML file, a JSON file, and the table for terminals and Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from edit_r1.shared.files import write_json, write_text
from edit_r1.trainer.report import pages
from edit_r1.trainer.report.charts import Series, line_chart
from edit_r1.workbench.alignment.agreement import PairAgreement, ScoreAgreement
from edit_r1.workbench.alignment.results import (
    ALL,
    Evidence,
    by_dimension,
    by_task,
    distributions,
    histograms,
    mean_over_tasks,
    paired_tests,
)
from edit_r1.workbench.markdown import table
from edit_r1.workbench.significance import Interval

HTML_NAME, JSON_NAME, TABLE_NAME = "alignment.html", "alignment.json", "alignment.md"
HEADINGS = (
    "method",
    "strict",
    "ties half",
    "tie rate",
    "with human ties",
    "whole items",
    "missing",
    "seconds an edit",
    "tokens an edit",
)


@dataclass(frozen=True)
class Price:
    """What one edit's score took."""

    seconds: float | None
    """Wall time with the run's groups in flight; None: nothing was asked."""
    tokens: float | None
    """Written by the judge; None: no score."""


@dataclass(frozen=True)
class Alignment:
    """All figures of a run."""

    data: str
    judge: str
    evidence: Evidence
    tasks: Mapping[str, Mapping[str, PairAgreement]]
    """Method -> `all` or task -> agreement."""
    dimensions: Mapping[str, Mapping[str, PairAgreement]]
    means: Mapping[str, Mapping[str, float]]
    """Method -> dimension -> mean over the tasks."""
    tests: Mapping[tuple[str, str], float]
    scores: Mapping[str, ScoreAgreement]
    prices: Mapping[str, Price]

    @classmethod
    def of(cls, data: str, judge: str, evidence: Evidence, prices: Mapping[str, Price]) -> Alignment:
        """Compute them."""
        return cls(
            data=data,
            judge=judge,
            evidence=evidence,
            tasks={method: by_task(evidence, method) for method in prices},
            dimensions={method: by_dimension(evidence, method) for method in prices},
            means={method: mean_over_tasks(evidence, method) for method in prices},
            tests=paired_tests(evidence),
            scores=distributions(evidence),
            prices=prices,
        )

    @property
    def ranked(self) -> list[str]:
        """Methods, the best first."""
        return sorted(self.tasks, key=lambda method: -_sortable(self.tasks[method][ALL].strict.estimate))


def rows(found: Alignment) -> list[tuple[str, ...]]:
    """A row a method under HEADINGS, the best first."""
    return [
        (
            method,
            interval(overall.strict),
            interval(overall.half),
            figure(overall.tie_rate),
            figure(overall.with_ties),
            interval(overall.whole_items),
            str(overall.num_missing),
            figure(found.prices[method].seconds),
            figure(found.prices[method].tokens, 1),
        )
        for method in found.ranked
        for overall in (found.tasks[method][ALL],)
    ]


def markdown(found: Alignment) -> str:
    """The table, and accuracy by task."""
    overall = table(HEADINGS, ([f"`{row[0]}`", *row[1:]] for row in rows(found)))
    tasks = [name for name in found.tasks[found.ranked[0]] if name != ALL]
    if len(tasks) <= 1:
        return overall
    lines = (
        [f"`{method}`", *(interval(found.tasks[method][task].strict) for task in tasks)] for method in found.ranked
    )
    return f"{overall}\n\n{table(['strict, by task', *tasks], lines)}"


def write(found: Alignment, out: Path) -> None:
    """Write the report, the figures, and the tables in Markdown."""
    write_text(out / TABLE_NAME, markdown(found) + "\n")
    write_json(out / JSON_NAME, _as_json(found))
    page = pages.render(
        "alignment.html",
        figure=figure,
        interval=interval,
        found=found,
        headings=HEADINGS,
        rows=rows(found),
        tasks=[name for name in found.tasks[found.ranked[0]] if name != ALL],
        dimensions=list(found.dimensions[found.ranked[0]]),
        charts=_charts(found),
    )
    write_text(out / HTML_NAME, page)


def figure(value: float | None, digits: int = 3) -> str:
    """For people; a dash where there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def interval(value: Interval) -> str:
    """The estimate and its interval."""
    return "-" if math.isnan(value.estimate) else f"{value.estimate:.3f} ({value.low:.3f} to {value.high:.3f})"


def _charts(found: Alignment) -> list[tuple[str, Markup]]:
    """People's distribution and each method's, by label."""
    if not found.evidence.labels:
        return []
    drawn = []
    for method in (None, *found.ranked):
        series = [Series(name, points) for name, points in histograms(found.evidence, method).items()]
        drawn.append((method or "people", Markup(line_chart(series, "score"))))  # noqa: S704 - our own numbers
    return drawn


def _as_json(found: Alignment) -> dict[str, Any]:
    content = {
        "data": found.data,
        "judge": found.judge,
        "items": found.evidence.num_items,
        "discarded_judgements": found.evidence.num_discarded,
        "methods": {
            method: {
                "pairs": {name: asdict(value) for name, value in found.tasks[method].items()},
                "dimensions": {name: asdict(value) for name, value in found.dimensions[method].items()},
                "mean_over_tasks": dict(found.means[method]),
                "scores": asdict(found.scores[method]) if method in found.scores else None,
                "seconds_an_edit": found.prices[method].seconds,
                "tokens_an_edit": found.prices[method].tokens,
            }
            for method in found.ranked
        },
        "paired_tests": [{"methods": list(pair), "p": p} for pair, p in found.tests.items()],
    }
    return {name: _without_nan(value) for name, value in content.items()}


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: null."""
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _sortable(value: float) -> float:
    return -1.0 if math.isnan(value) else value
