"""Output files of an evaluation: results.json for programs, tables in the papers' layout, the authors' own files.

Writes results.json and results.md to the output directory; for ImgEdit also result.json, average_score.json and
typescore.json in the format of its scripts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from edit_r1.shared.files import write_json, write_text
from edit_r1.workbench.evaluation.aggregation import GEditSummary, Summary
from edit_r1.workbench.evaluation.benchmarks import GEDIT_TASKS
from edit_r1.workbench.evaluation.output.tables import Report, Table, number
from edit_r1.workbench.evaluation.published import GEDIT_EN, IMGEDIT, IMGEDIT_COLUMNS, IMGEDIT_HEADINGS
from edit_r1.workbench.evaluation.results import (
    RESULTS_NAME,
    Results,
    gedit_summaries,
    imgedit_summaries,
    missing_reasons,
    num_cap_violations,
)

TABLES_NAME = "results.md"


def write(out: Path, results: Results) -> Report:
    """Write everything except the gallery; returns the tables."""
    document = {**results.model_dump(mode="json"), "summary": summary(results)}
    write_json(out / RESULTS_NAME, document)
    tables = report(results)
    write_text(out / TABLES_NAME, tables.markdown())
    if results.benchmark == "imgedit":
        for name, content in official_files(results).items():
            write_text(out / name, json.dumps(content, indent=4, ensure_ascii=False) + "\n")
    return tables


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
    """All figures of the tables, for programs."""
    common = {"missing": dict(missing_reasons(results.items))}
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


def report(results: Results) -> Report:
    """The tables in the papers' layout."""
    judge = results.judge
    reasons = missing_reasons(results.items)
    counts = f" ({', '.join(f'{name} {count}' for name, count in reasons.items())})" if reasons else ""
    return Report(
        "ImgEdit-Bench" if results.benchmark == "imgedit" else "GEdit-Bench",
        [
            results.description,
            f"Editor: {_editor_line(results.editor)}; seed {results.seed}. Judge: {judge.model}, prompts: "
            f"{judge.prompts} ({judge.prompts_digest[:8]}), {results.judged_at}.",
            *(_imgedit_blocks(results) if results.benchmark == "imgedit" else _gedit_blocks(results)),
            f"Missing judgements, excluded from all means: {sum(reasons.values())} of {len(results.items)}{counts}.",
            *_usage_blocks(results),
        ],
    )


def _usage_blocks(results: Results) -> list[str]:
    used = results.usage
    if used is None:
        return []
    return [f"Tokens by the judge's count: {used.prompt_tokens:,} of prompts, {used.completion_tokens:,} of answers."]


def _imgedit_blocks(results: Results) -> list[str | Table]:
    strict, official = imgedit_summaries(results)
    columns = [strict.types.get(name) for name in IMGEDIT_COLUMNS]
    counts = [f"{column.num_scored}/{column.num_items}" if column else "-" for column in columns]
    rows = [
        ["this editor", *_cells(strict), number(strict.macro)],
        ["this editor, official parser", *_cells(official), number(official.macro)],
        ["scored items", *counts, f"{strict.num_scored}/{strict.num_items}"],
        *([f"{name} (published)", *map(number, row.types), number(row.overall)] for name, row in IMGEDIT.items()),
    ]
    return [
        Table(["", *IMGEDIT_HEADINGS, "Overall"], rows),
        f"Overall is the mean of the nine types. Mean over items: {number(strict.item_mean)}. Parse coverage: strict "
        f"{strict.coverage:.1%}, official {official.coverage:.1%}. Answers above their own cap: "
        f"{num_cap_violations(results)}. Published rows: judged by GPT-4.1 at the time with the authors' prompts.",
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
        "G_* are means of the tasks' means; O = sqrt(SC PQ) per sample. Published rows: judged by GPT-4.1 at the time "
        "with the authors' prompts.",
        Table(["SC / PQ / O", *(f"{language}, {name}" for language, name, _ in sets)], tasks),
    ]


def _cells(row: Summary) -> list[str]:
    return [number(row.types[name].mean) if name in row.types else "-" for name in IMGEDIT_COLUMNS]


def _task_cell(row: GEditSummary, task: str) -> str:
    if task not in row.overall.types:
        return "-"
    return " / ".join(number(one.types[task].mean) for one in (row.semantic, row.quality, row.overall))


def _editor_line(editor: Mapping[str, Any]) -> str:
    if "pictures" in editor:
        return f"images in {editor['pictures']}"
    adapter = f"adapter {editor['adapter'][:8]}" if editor["adapter"] else "no adapter"
    settings = editor["settings"]
    line = f"{editor['model']}, {adapter}, {settings['steps']} steps, guidance {settings['guidance']:g}"
    if "true_cfg" not in settings:
        return line
    true_cfg = settings["true_cfg"]
    return f"{line}, true CFG {true_cfg['scale']:g} with negative prompt {true_cfg['negative_prompt']!r}"


def _dumped(row: Summary) -> dict[str, Any]:
    return {**asdict(row), "coverage": row.coverage}
