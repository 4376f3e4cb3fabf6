"""A report of paragraphs and tables, as markdown that reads well in a terminal, and for the template of galleries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of texts under headings; the first column names the rows."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Padded, numbers to the right."""
        widths = [max(len(row[column]) for row in (self.headings, *self.rows)) for column in range(len(self.headings))]
        widths = [max(width, 4) for width in widths]
        ruler = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        return "\n".join(_line(row, widths) for row in (self.headings, ruler, *self.rows))


@dataclass(frozen=True)
class Report:
    """What is printed and what a page shows above its pictures."""

    title: str
    blocks: Sequence[str | Table]

    def markdown(self) -> str:
        """The whole, a heading first."""
        blocks = [block if isinstance(block, str) else block.markdown() for block in self.blocks]
        return "\n\n".join([f"# {self.title}", *blocks]) + "\n"


def number(value: float | None) -> str:
    """Two digits, as papers print; a dash for none."""
    return "-" if value is None else f"{value:.2f}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    return f"| {' | '.join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)])} |"
