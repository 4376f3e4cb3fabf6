"""Results of an evaluation: every item with its verdict, as stored in results.json, and the means over them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from edit_r1.shared.chat.completions import Usage
from edit_r1.shared.errors import DataError
from edit_r1.workbench.evaluation.aggregation import (
    GEditScores,
    GEditSummary,
    Sample,
    Summary,
    summarise,
    summarise_gedit,
)
from edit_r1.workbench.evaluation.benchmarks import GEDIT_TASKS, BenchmarkName, Language, first_fault
from edit_r1.workbench.evaluation.published import IMGEDIT_COLUMNS

RESULTS_NAME = "results.json"
LANGUAGES: tuple[Language, ...] = ("en", "cn")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JudgedItem(_Record):
    """One item of the benchmark with its result."""

    key: str
    type: str
    language: Language
    intersection: bool
    instruction: str
    source: str
    """Path, relative to the results directory if inside it."""
    picture: str | None
    """Path like `source`; None when there is no image."""
    value: float | None
    """ImgEdit: 1..5. GEdit: O, 0..10. None when missing."""
    parts: dict[str, float]
    """ImgEdit: scores by criterion, in order. GEdit: SC and PQ."""
    official: float | None
    """ImgEdit: score by the authors' parser."""
    missing: str | None
    """Reason when there is no value."""
    answers: dict[str, str | None]
    """The judge's answers by question."""


class JudgeInfo(_Record):
    """The judge and its prompts."""

    model: str
    url: str
    prompts: str
    """`ours`, or the path they were read from."""
    prompts_digest: str


class Results(_Record):
    """A whole evaluation, from which summaries are computed."""

    benchmark: BenchmarkName
    description: str
    """Files read and number of items."""
    editor: dict[str, Any]
    """Model, adapter and settings; or the directory of existing images."""
    seed: int
    judge: JudgeInfo
    judged_at: str
    """Time in UTC; a judge served by others may change over time."""
    items: tuple[JudgedItem, ...]
    usage: Usage | None = None
    """Tokens of all answers by the judge's own count, in this and earlier runs; None when it reports none."""


def read_results(directory: Path) -> Results:
    """Read results.json. Raises DataError."""
    path = directory / RESULTS_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values.pop("summary", None)
        return Results.model_validate(values)
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{directory} contains no results of edit-r1 evaluate: {first_fault(error)}") from error


def stored_path(path: Path, out: Path) -> str:
    """Path as stored in results.json: relative if inside the results directory, so that it can be moved."""
    full = path.resolve()
    return os.path.relpath(full, out.resolve()) if full.is_relative_to(out.resolve()) else str(full)


def imgedit_summaries(results: Results) -> tuple[Summary, Summary]:
    """Summaries of (the strict parser, the authors' parser)."""
    strict = [Sample(item.type, item.value) for item in results.items]
    official = [Sample(item.type, item.official) for item in results.items]
    return summarise(strict, IMGEDIT_COLUMNS), summarise(official, IMGEDIT_COLUMNS)


def num_cap_violations(results: Results) -> int:
    """Number of answers scoring a later criterion above the first, which the prompt forbids but their code allows."""
    rated = [list(item.parts.values()) for item in results.items if item.value is not None]
    return sum(max(scores) > scores[0] for scores in rated)


def gedit_summaries(results: Results) -> list[tuple[Language, str, GEditSummary]]:
    """(language, full or intersection, summary) of every non-empty set."""
    found: list[tuple[Language, str, GEditSummary]] = []
    for language in LANGUAGES:
        full = [item for item in results.items if item.language == language]
        sets = (("full", full), ("intersection", [item for item in full if item.intersection]))
        found += [(language, name, _gedit_summary(items)) for name, items in sets if items]
    return found


def missing_kind(item: JudgedItem) -> str | None:
    """Kind of the reason: refused, failed, cut, unparsable, no picture."""
    return None if item.missing is None else item.missing.partition(":")[0]


def missing_reasons(items: Sequence[JudgedItem]) -> Counter[str]:
    """Counts by kind."""
    return Counter(kind for item in items if (kind := missing_kind(item)) is not None)


def _gedit_summary(items: Sequence[JudgedItem]) -> GEditSummary:
    scores = [None if item.value is None else GEditScores(item.parts["SC"], item.parts["PQ"]) for item in items]
    return summarise_gedit(zip((item.type for item in items), scores, strict=True), GEDIT_TASKS)
