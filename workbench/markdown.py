"""Markdown tables, for terminals and documents alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(headings: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """One line per row, cells formatted by `str`. Raises ValueError if a row and the headings differ in length."""
    lines = [_line(headings), _line(["---"] * len(headings))]
    for row in rows:
        if len(row) != len(headings):
            raise ValueError(f"row has {len(row)} cells for {len(headings)} headings: {row}")
        lines.append(_line(row))
    return "\n".join(lines)


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
