"""Compares two evaluations of one benchmark by one judge: which is better, how certain it is, and where.

Reads two output directories of `edit-r1 evaluate`; writes comparison.json, comparison.md and comparison.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from edit_r1.shared.errors import DataError
from edit_r1.shared.files import write_json, write_text
from edit_r1.workbench.evaluation.comparison import Outcome, Paired, compare, pair
from edit_r1.workbench.evaluation.output import gallery
from edit_r1.workbench.evaluation.output.gallery import Card, Cell, Section, verdict_line
from edit_r1.workbench.evaluation.output.tables import Report, Table, number
from edit_r1.workbench.evaluation.results import LANGUAGES, JudgedItem, Results, read_results
from edit_r1.workbench.significance import Interval

JSON_NAME, TABLES_NAME, GALLERY_NAME = "comparison.json", "comparison.md", "comparison.html"
_HEADINGS = ("", "pairs", "A", "B", "B - A (95%)", "B wins", "ties", "A wins", "sign test p")


@dataclass(frozen=True)
class Row:
    """One line of the comparison."""

    name: str
    outcome: Outcome
    first: float
    """Mean of A over the pairs; for all types together, the mean of the types' means."""
    second: float
    is_whole: bool
    """Whether the row covers all types together."""


def write_comparison(first: Path, second: Path, out: Path, *, seed: int, shown: int) -> str:
    """Compare B = second with A = first; returns the tables. Raises DataError when they are not comparable."""
    a, b = read_results(first), read_results(second)
    _check_comparable(a, b, first, second)
    rows, left_out = _rows(a, b, seed)
    report = Report(f"{a.benchmark}: A against B", [*_head(a, b, first, second), *_body(rows, left_out)])
    write_json(out / JSON_NAME, _document(a, b, rows, left_out))
    write_text(out / TABLES_NAME, report.markdown())
    write_text(out / GALLERY_NAME, gallery.render(report, _sections(first, second, a, b, shown)))
    return report.markdown()


def _check_comparable(a: Results, b: Results, first: Path, second: Path) -> None:
    for what, mine, other in (
        ("benchmark", a.benchmark, b.benchmark),
        ("judge", a.judge.model, b.judge.model),
        ("prompts", a.judge.prompts_digest, b.judge.prompts_digest),
    ):
        if mine != other:
            raise DataError(f"{first} and {second} cannot be compared: different {what}: {mine} and {other}")
    instructions = {item.key: item.instruction for item in a.items}
    for item in b.items:
        if instructions.get(item.key, item.instruction) != item.instruction:
            raise DataError(f"{first} and {second} cannot be compared: the instructions of item {item.key} differ")


def _rows(a: Results, b: Results, seed: int) -> tuple[list[Row], int]:
    """Rows for each language, overall and by type, and the number of items that lack a score on either side."""
    rows: list[Row] = []
    num_left_out = 0
    for language in LANGUAGES:
        mine, other = (
            {item.key: (item.type, item.value) for item in one.items if item.language == language} for one in (a, b)
        )
        pairs = pair(mine, other)
        num_left_out += len(mine.keys() | other.keys()) - len(pairs)
        if not pairs:
            continue
        suffix = "" if a.benchmark == "imgedit" else f", {language}"
        rows.append(_row(f"all{suffix}", pairs, seed, is_whole=True))
        rows += [
            _row(f"{name}{suffix}", [one for one in pairs if one.type == name], seed, is_whole=False)
            for name in dict.fromkeys(one.type for one in pairs)
        ]
    if not rows:
        raise DataError("no item has a score in both")
    return rows, num_left_out


def _row(name: str, pairs: Sequence[Paired], seed: int, *, is_whole: bool) -> Row:
    types = [[one for one in pairs if one.type == name] for name in dict.fromkeys(one.type for one in pairs)]
    return Row(
        name=name,
        outcome=compare(pairs, np.random.default_rng(seed)),
        first=fmean(fmean(one.first for one in group) for group in types),
        second=fmean(fmean(one.second for one in group) for group in types),
        is_whole=is_whole,
    )


def _head(a: Results, b: Results, first: Path, second: Path) -> list[str]:
    noise = "" if a.seed == b.seed else f" The noise differs: seeds {a.seed} and {b.seed}."
    return [f"A: {first} ({a.judged_at}). B: {second} ({b.judged_at}). Judge: {a.judge.model}.{noise}"]


def _body(rows: Sequence[Row], left_out: int) -> list[str | Table]:
    decided = [
        f"{row.name}: B wins {row.outcome.num_wins} of {row.outcome.num_wins + row.outcome.num_losses} decided pairs; "
        f"mean over items of B - A: {_difference(row.outcome.item_difference)}."
        for row in rows
        if row.is_whole
    ]
    return [
        Table(_HEADINGS, [_cells(row) for row in rows]),
        *decided,
        f"Excluded items that lack a score on either side: {left_out}. Rows `all` weight types equally; intervals of "
        "B - A are bootstrapped over items within types, those of shares are Wilson's.",
    ]


def _cells(row: Row) -> list[str]:
    outcome = row.outcome
    return [
        row.name,
        str(outcome.num_pairs),
        number(row.first),
        number(row.second),
        _difference(outcome.macro_difference),
        *(
            f"{one.estimate:.0%} ({one.low:.0%} to {one.high:.0%})"
            for one in (outcome.wins, outcome.ties, outcome.losses)
        ),
        f"{outcome.sign_test_p:.2g}",
    ]


def _difference(interval: Interval) -> str:
    return f"{interval.estimate:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"


def _document(a: Results, b: Results, rows: Sequence[Row], left_out: int) -> dict[str, Any]:
    return {
        "benchmark": a.benchmark,
        "judge": a.judge.model,
        "first": a.editor,
        "second": b.editor,
        "left_out": left_out,
        "rows": [{"name": row.name, "first": row.first, "second": row.second, **asdict(row.outcome)} for row in rows],
    }


def _sections(first: Path, second: Path, a: Results, b: Results, shown: int) -> list[Section]:
    """The items where B gains most and where it loses most."""
    others = {item.key: item for item in b.items}
    both = [
        (other.value - item.value, item, other)
        for item in a.items
        if (other := others.get(item.key)) is not None and item.value is not None and other.value is not None
    ]
    both.sort(key=lambda one: one[0])
    better = [one for one in reversed(both) if one[0] > 0][:shown]
    worse = [one for one in both if one[0] < 0][:shown]
    return [
        Section(heading, tuple(_card(first, second, item, other) for _, item, other in picked))
        for heading, picked in (("B gains most", better), ("B loses most", worse))
        if picked
    ]


def _card(first: Path, second: Path, item: JudgedItem, other: JudgedItem) -> Card:
    cells = (
        Cell(first / item.source, "original"),
        Cell(first / item.picture if item.picture else None, f"A: {verdict_line(item)}"),
        Cell(second / other.picture if other.picture else None, f"B: {verdict_line(other)}"),
    )
    return Card(item.instruction, f"{item.key} ({item.type})", cells)
