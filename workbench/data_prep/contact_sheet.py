"""A contact sheet: some tasks of every type, each as an image with task type and instruction below."""

from __future__ import annotations

import heapq
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from edit_r1.shared.images import content_hash
from edit_r1.shared.sources import Source
from edit_r1.trainer.report.grids import CELL, put
from edit_r1.trainer.tasks.task_line import TaskLine
from edit_r1.workbench.data_prep import pictures
from edit_r1.workbench.data_prep.mix import task_name

_COLUMNS, _LINES, _LINE_PIXELS, _LINE_CHARS, _GAP = 8, 3, 12, 22, 8


@dataclass(frozen=True, order=True)
class Entry:
    """A candidate task for the sheet."""

    rank: str
    """Hash of image name and prompt."""
    name: str
    task: str
    prompt: str
    source: Source = field(compare=False)


class SheetSample:
    """Keeps up to `count` tasks, balanced over types: those with the smallest hashes, regardless of input order."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._by_task: dict[str, list[Entry]] = {}

    def add(self, task: TaskLine, source: Source) -> None:
        """Consider one task, represented by its first image, `source`."""
        name, kind = task.names[0], task_name(task)
        kept = self._by_task.setdefault(kind, [])
        kept.append(Entry(content_hash(f"{name}\0{task.prompt}".encode()), name, kind, task.prompt, source))
        if len(kept) > 2 * self._count:
            kept[:] = heapq.nsmallest(self._count, kept)

    def chosen(self) -> list[Entry]:
        """The tasks to show, by type."""
        queues = {task: heapq.nsmallest(self._count, kept) for task, kept in sorted(self._by_task.items())}
        shares = dict.fromkeys(queues, 0)
        for _ in range(min(self._count, sum(map(len, queues.values())))):
            # One more for the type with the fewest so far that has tasks left.
            task = min((task for task in queues if shares[task] < len(queues[task])), key=lambda name: shares[name])
            shares[task] += 1
        return [entry for task, queue in queues.items() for entry in queue[: shares[task]]]

    def draw(self) -> Image.Image:
        """Draw the sheet. Raises DataError when an image has disappeared."""
        entries = self.chosen()
        cell = (CELL + _GAP, CELL + (2 + _LINES) * _LINE_PIXELS + _GAP)
        columns = max(1, min(_COLUMNS, len(entries)))
        rows = max(1, math.ceil(len(entries) / columns))
        sheet = Image.new("RGB", (columns * cell[0], rows * cell[1]), "white")
        for index, entry in enumerate(entries):
            corner = (index % columns * cell[0], index // columns * cell[1])
            put(sheet, pictures.load(entry.source), entry.task, corner)
            _write(sheet, entry.prompt, (corner[0] + 2, corner[1] + CELL + _LINE_PIXELS + 2))
        return sheet


def _write(sheet: Image.Image, text: str, corner: tuple[int, int]) -> None:
    lines: Sequence[str] = textwrap.wrap(text, _LINE_CHARS, max_lines=_LINES, placeholder=" ...") or [""]
    for index, line in enumerate(lines):
        ImageDraw.Draw(sheet).text((corner[0], corner[1] + index * _LINE_PIXELS), line, fill="dimgrey")
