"""What an evaluation leaves: results.json for programs, tables in the papers' layout, the authors' own files.

Enters: every item with its verdict. Leaves, in the output directory: results.json and results.md; for ImgEdit also
result.json, average_score.json and typescore.json as its scripts write them.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict

from shared.errors import DataError
from shared.files import write_json, write_text
from trainer.evaluation.aggregation import GEditScores, GEditSummary, Sample, Summary, summarise, summarise_gedit
from trainer.evaluation.benchmarks import GEDIT_TASKS, BenchmarkName, Language, first_fault
from trainer.evaluation.published import GEDIT_EN, IMGEDIT, IMGEDIT_COLUMNS, IMGEDIT_HEADINGS
from trainer.evaluation.tables import Report, Table, number

RESULTS_NAME, TABLES_NAME = "results.json", "results.md"
LANGUAGES: tuple[Language, ...] = ("en", "cn")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JudgedItem(_Record):
    """One item of the benchmark and what became of it."""

    key: str
    type: str
    language: Language
    intersection: bool
    instruction: str
    source: str
    """Path, relative to the results' directory where it is below it."""
    picture: str | None
    """Likewise; None: there is none."""
    value: float | None
    """ImgEdit: 1..5. GEdit: O, 0..10. None: missing."""
    parts: dict[str, float]
    """ImgEdit: by criterion, in their order. GEdit: SC and PQ."""
    official: float | None
    """ImgEdit: by the authors' parser."""
    missing: str | None
    """Why there is no value."""
    answers: dict[str, str | None]
    """The judge's own words, by question."""


class JudgeInfo(_Record):
    """Who judged, and what it was asked."""

    model: str
    url: str
    prompts: str
    """`ours`, or the file they are from."""
    prompts_digest: str


class Results(_Record):
    """A whole evaluation; summaries are made from it."""

    benchmark: BenchmarkName
    description: str
    """Which files, how many items."""
    editor: dict[str, Any]
    """Model, adapter and settings; or where the pictures were found."""
    seed: int
    judge: JudgeInfo
    judged_at: str
    """UTC; a judge that others serve changes with time."""
    items: tuple[JudgedItem, ...]


def read_results(directory: Path) -> Results:
    """What `write` wrote. Raises DataError."""
    path = directory / RESULTS_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values.pop("summary", None)
        return Results.model_validate(values)
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{directory} holds no results of edit-r1 evaluate: {first_fault(error)}") from error


def write(out: Path, results: Results) -> Report:
    """Write everything but the gallery; returns the tables."""
    document = {**results.model_dump(mode="json"), "summary": summary(results)}
    write_json(out / RESULTS_NAME, document)
    tables = report(results)
    write_text(out / TABLES_NAME, tables.markdown())
    if results.benchmark == "imgedit":
        for name, content in official_files(results).items():
            write_text(out / name, json.dumps(content, indent=4, ensure_ascii=False) + "\n")
    return tables


def stored_path(path: Path, out: Path) -> str:
    """How results.json names a file: relative where it lies below the results, so that they can be moved."""
    full = path.resolve()
    return os.path.relpath(full, out.resolve()) if full.is_relative_to(out.resolve()) else str(full)


def official_files(results: Results) -> dict[str, dict[str, Any]]:
    """ImgEdit's result.json (key -> answer), average_score.json (key -> score), typescore.json (type -> mean)."""
    answers = {item.key: item.answers.get("rating") for item in results.items}
    scores = {item.key: item.official for item in results.items if item.official is not None}
    by_type = {
        name: [item.official for item in results.items if item.type == name and item.official is not None]
        for name in IMGEDIT_COLUMNS
    }
    return {
        "result.json": {key: text for key, text in answers.items() if text is not None},
        "average_score.json": scores,
        "typescore.json": {name: round(fmean(values), 2) for name, values in by_type.items() if values},
    }


def summary(results: Results) -> dict[str, Any]:
    """All numbers of the tables, for programs."""
    common = {"missing": dict(_reasons(results.items))}
    if results.benchmark == "imgedit":
        strict, official = imgedit_summaries(results)
        return {
            **common,
            "overall_macro": strict.macro,
            "overall_micro": strict.item_mean,
            "coverage": strict.coverage,
            "strict": _dumped(strict),
            "official": _dumped(official),
            "cap_violations": num_cap_violations(results),
        }
    sets = {f"{language}/{name}": row for language, name, row in gedit_summaries(results)}
    return {
        **common,
        "sets": {
            name: {
                "G_SC": row.semantic.macro,
                "G_PQ": row.quality.macro,
                "G_O": row.overall.macro,
                "item_mean_O": row.overall.item_mean,
                "coverage": row.overall.coverage,
                "tasks": {
                    task: {
                        "SC": row.semantic.types[task].mean,
                        "PQ": row.quality.types[task].mean,
                        "O": column.mean,
                        "num_items": column.num_items,
                        "num_scored": column.num_scored,
                    }
                    for task, column in row.overall.types.items()
                },
            }
            for name, row in sets.items()
        },
    }


def imgedit_summaries(results: Results) -> tuple[Summary, Summary]:
    """(by the strict parser, by the authors')."""
    strict = [Sample(item.type, item.value) for item in results.items]
    official = [Sample(item.type, item.official) for item in results.items]
    return summarise(strict, IMGEDIT_COLUMNS), summarise(official, IMGEDIT_COLUMNS)


def num_cap_violations(results: Results) -> int:
    """Answers that score a later criterion above the first, which the prompt forbids and the authors' code allows."""
    rated = [list(item.parts.values()) for item in results.items if item.value is not None]
    return sum(max(scores) > scores[0] for scores in rated)


def gedit_summaries(results: Results) -> list[tuple[Language, str, GEditSummary]]:
    """(language, full or intersection, its row), of the sets that have items."""
    found: list[tuple[Language, str, GEditSummary]] = []
    for language in LANGUAGES:
        full = [item for item in results.items if item.language == language]
        sets = (("full", full), ("intersection", [item for item in full if item.intersection]))
        found += [(language, name, _gedit_summary(items)) for name, items in sets if items]
    return found


def report(results: Results) -> Report:
    """The tables in the papers' layout."""
    judge = results.judge
    reasons = _reasons(results.items)
    counts = f" ({', '.join(f'{name} {count}' for name, count in reasons.items())})" if reasons else ""
    return Report(
        "ImgEdit-Bench" if results.benchmark == "imgedit" else "GEdit-Bench",
        [
            results.description,
            f"Editor: {_editor_line(results.editor)}; seed {results.seed}. Judge: {judge.model}, prompts: "
            f"{judge.prompts} ({judge.prompts_digest[:8]}), {results.judged_at}.",
            *(_imgedit_blocks(results) if results.benchmark == "imgedit" else _gedit_blocks(results)),
            f"Missing judgements, in no mean: {sum(reasons.values())} of {len(results.items)}{counts}.",
        ],
    )


def _imgedit_blocks(results: Results) -> list[str | Table]:
    strict, official = imgedit_summaries(results)
    columns = [strict.types.get(name) for name in IMGEDIT_COLUMNS]
    counts = [f"{column.num_scored}/{column.num_items}" if column else "-" for column in columns]
    rows = [
        ["this editor", *_cells(strict), number(strict.macro)],
        ["as the official script reads it", *_cells(official), number(official.macro)],
        ["scored items", *counts, f"{strict.num_scored}/{strict.num_items}"],
        *([f"{name} (published)", *map(number, row.types), number(row.overall)] for name, row in IMGEDIT.items()),
    ]
    return [
        Table(["", *IMGEDIT_HEADINGS, "Overall"], rows),
        f"Overall is the mean of the nine types. Mean over items: {number(strict.item_mean)}. Parse coverage: strict "
        f"{strict.coverage:.1%}, official {official.coverage:.1%}. Answers over their own cap: "
        f"{num_cap_violations(results)}. Published rows: GPT-4.1 of their day and the authors' prompts.",
    ]


def _gedit_blocks(results: Results) -> list[str | Table]:
    sets = gedit_summaries(results)
    rows = [
        [
            f"this editor, {language}, {name}",
            number(row.semantic.macro),
            number(row.quality.macro),
            number(row.overall.macro),
            number(row.overall.item_mean),
            f"{row.overall.num_scored}/{row.overall.num_items}",
        ]
        for language, name, row in sets
    ]
    rows += [
        [f"{name}, en, full (published)", number(row.semantic), number(row.quality), number(row.overall), "-", "-"]
        for name, row in GEDIT_EN.items()
    ]
    tasks = [
        [task, *(_task_cell(row, task) for _, _, row in sets)]
        for task in GEDIT_TASKS
        if any(task in row.overall.types for _, _, row in sets)
    ]
    return [
        Table(["", "G_SC", "G_PQ", "G_O", "item mean O", "scored items"], rows),
        "G_* are means of the tasks' means; O = sqrt(SC PQ) sample by sample. Published rows: GPT-4.1 of their day and "
        "the authors' prompts.",
        Table(["SC / PQ / O", *(f"{language}, {name}" for language, name, _ in sets)], tasks),
    ]


def missing_kind(item: JudgedItem) -> str | None:
    """The reason in a word: refused, failed, unparsable, no picture."""
    return None if item.missing is None else item.missing.partition(":")[0]


def _reasons(items: Sequence[JudgedItem]) -> Counter[str]:
    return Counter(kind for item in items if (kind := missing_kind(item)) is not None)


def _gedit_summary(items: Sequence[JudgedItem]) -> GEditSummary:
    scores = [None if item.value is None else GEditScores(item.parts["SC"], item.parts["PQ"]) for item in items]
    return summarise_gedit(zip((item.type for item in items), scores, strict=True), GEDIT_TASKS)


def _cells(row: Summary) -> list[str]:
    return [number(row.types[name].mean) if name in row.types else "-" for name in IMGEDIT_COLUMNS]


def _task_cell(row: GEditSummary, task: str) -> str:
    if task not in row.overall.types:
        return "-"
    return " / ".join(number(one.types[task].mean) for one in (row.semantic, row.quality, row.overall))


def _editor_line(editor: Mapping[str, Any]) -> str:
    if "pictures" in editor:
        return f"pictures in {editor['pictures']}"
    adapter = f"adapter {editor['adapter'][:8]}" if editor["adapter"] else "no adapter"
    settings = editor["settings"]
    return f"{editor['model']}, {adapter}, {settings['steps']} steps, guidance {settings['guidance']:g}"


def _dumped(row: Summary) -> dict[str, Any]:
    return {**asdict(row), "coverage": row.coverage}
