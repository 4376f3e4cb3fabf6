"""Draws the README's picture from a run of the demo.

    python -m edit_r1.worlds.shapes.readme_picture runs/demo docs/images/demo.png

One column per task type: of the held-out tasks that training made right, the one whose reward rose most. Shows the
instruction, the source, and the edits from the same noise before and after training, each with the judge's reward and
a green frame if the oracle considers it a success.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from edit_r1.trainer.records.records import EvaluatedTask, read_evaluations

ZOOM = 3
CELL_PIXELS = 32 * ZOOM
GAP, HEAD, FOOT, MARGIN = 18, 58, 24, 64
ROWS = ("source", "before", "after")
SUCCESS, FAILURE, TEXT = (40, 160, 80), (200, 70, 60), (40, 40, 40)


def draw(run_dir: Path) -> Image.Image:
    """The picture: one column per task type."""
    evaluations = read_evaluations(run_dir)
    (before_dir, before), (after_dir, after) = evaluations[0], evaluations[-1]
    later = {task.index: task for task in after.tasks}
    shown = clearest_gains(before.tasks, later)
    canvas = Image.new("RGB", (MARGIN + len(shown) * (CELL_PIXELS + GAP), _top(len(ROWS))), "white")
    pen = ImageDraw.Draw(canvas)
    for row, name in enumerate(ROWS):
        pen.text((6, _top(row) + CELL_PIXELS // 2 - 8), name, TEXT, font=_font(15))
    for column, task in enumerate(shown):
        left = MARGIN + column * (CELL_PIXELS + GAP)
        pen.text((left, 10), textwrap.fill(task.instruction, 16), TEXT, font=_font(12))
        _paste(canvas, before_dir / str(task.source), left, _top(0))
        for row, (directory, edit) in enumerate(((before_dir, task), (after_dir, later[task.index])), start=1):
            _paste(canvas, directory / str(edit.edited), left, _top(row))
            _verdict(pen, edit, left, _top(row))
    return canvas


def clearest_gains(before: Sequence[EvaluatedTask], later: Mapping[int, EvaluatedTask]) -> list[EvaluatedTask]:
    """Of each task type, the task with images whose reward rose most among those that training made right."""

    def gain(task: EvaluatedTask) -> float:
        return (later[task.index].reward or 0.0) - (task.reward or 0.0)

    right_now = [task for task in before if task.edited and not _is_success(task) and _is_success(later[task.index])]
    best: dict[str | None, EvaluatedTask] = {}
    for task in sorted(right_now, key=gain):
        best[task.task] = task
    return [best[name] for name in sorted(best, key=str)]


def _is_success(edit: EvaluatedTask) -> bool:
    return bool(edit.metrics["oracle_success"])


def _top(row: int) -> int:
    return HEAD + row * (CELL_PIXELS + FOOT)


def _paste(canvas: Image.Image, file: Path, left: int, top: int) -> None:
    canvas.paste(Image.open(file).resize((CELL_PIXELS, CELL_PIXELS), Image.Resampling.NEAREST), (left, top))


def _verdict(pen: ImageDraw.ImageDraw, edit: EvaluatedTask, left: int, top: int) -> None:
    color = SUCCESS if _is_success(edit) else FAILURE
    pen.rectangle([left - 3, top - 3, left + CELL_PIXELS + 2, top + CELL_PIXELS + 2], outline=color, width=3)
    reward = "no reward" if edit.reward is None else f"reward {edit.reward:.2f}"
    pen.text((left, top + CELL_PIXELS + 5), reward, color, font=_font(12))


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def main() -> int:
    """`picture RUN_DIR FILE`."""
    run_dir, file = map(Path, sys.argv[1:])
    file.parent.mkdir(parents=True, exist_ok=True)
    draw(run_dir).save(file, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
