"""Galleries: a self-contained HTML file of thumbnails, of one editor or of two side by side.

Renders sections of cards, each an instruction with captioned images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

from edit_r1.shared import images
from edit_r1.trainer.report import pages
from edit_r1.workbench.evaluation.output.tables import Report, number
from edit_r1.workbench.evaluation.results import JudgedItem, Results, missing_kind

_TEMPLATE = Path(__file__).with_name("gallery.html")

_SIDE = 192
T = TypeVar("T")


@dataclass(frozen=True)
class Cell:
    """An image with its caption."""

    path: Path | None
    """None when there is no image."""
    caption: str


@dataclass(frozen=True)
class Card:
    """One item."""

    instruction: str
    note: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Section:
    """Items under one heading."""

    heading: str
    cards: tuple[Card, ...]


def evaluation_sections(out: Path, results: Results, per_type: int) -> list[Section]:
    """Up to per_type items of every type, spread evenly from worst to best, after missing judgements."""
    sections = []
    for name in dict.fromkeys(item.type for item in results.items):
        items = [item for item in results.items if item.type == name]
        lost = [item for item in items if item.value is None]
        scored = sorted((item for item in items if item.value is not None), key=lambda item: item.value or 0.0)
        shown = [*lost[:per_type], *spread(scored, per_type)]
        heading = f"{name}: {len(shown)} of {len(items)}, worst first"
        sections.append(Section(heading, tuple(_card(out, item) for item in shown)))
    return sections


def spread(items: Sequence[T], count: int) -> list[T]:
    """`count` evenly spaced items including the first and the last; all when there are no more."""
    if len(items) <= count:
        return list(items)
    step = (len(items) - 1) / max(1, count - 1)
    return [items[round(index * step)] for index in range(count)]


def render(report: Report, sections: Sequence[Section]) -> str:
    """The page: the report followed by the images."""
    return pages.render(_TEMPLATE, report=report, sections=sections, thumbnail=thumbnail)


def thumbnail(path: Path) -> str | None:
    """A data: URL of a thumbnail; None when the file no longer exists."""
    if not path.is_file():
        return None
    image = images.decode(path.read_bytes())
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return images.data_url(images.encode(image))


def verdict_line(item: JudgedItem) -> str:
    """The judge's verdict in one line."""
    if item.value is None:
        return missing_kind(item) or ""
    return " · ".join([number(item.value), *(f"{name} {value:g}" for name, value in item.parts.items())])


def _card(out: Path, item: JudgedItem) -> Card:
    picture = out / item.picture if item.picture is not None else None
    cells = (Cell(out / item.source, "original"), Cell(picture, "edit"))
    return Card(item.instruction, f"{item.key}: {verdict_line(item)}", cells)
