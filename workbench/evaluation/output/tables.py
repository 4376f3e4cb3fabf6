"""Reports of paragraphs and tables, as terminal-friendly Markdown and for the gallery template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of texts under headings; the first column has the row names."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table in Markdown, padded, with numbers right-aligned."""
        widths = [max(len(row[column]) for row in (self.headings, *self.rows)) for column in range(len(self.headings))]
        widths = [max(width, 4) for width in widths]
        ruler = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        return "\n".join(_line(row, widths) for row in (self.headings, ruler, *self.rows))


@dataclass(frozen=True)
class Report:
    """Printed on the terminal and shown above the images of a page."""

    title: str
    blocks: Sequence[str | Table]

    def markdown(self) -> str:
        """The whole report, starting with a heading."""
        blocks = [block if isinstance(block, str) else block.markdown() for block in self.blocks]
        return "\n\n".join([f"# {self.title}", *blocks]) + "\n"


def number(value: float | None) -> str:
    """Two decimals, as in the papers; a dash for None."""
    return "-" if value is None else f"{value:.2f}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    return f"| {' | '.join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)])} |"
