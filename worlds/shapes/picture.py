"""Draws the README's figure from a run of the demo.

    python -m edit_r1.worlds.shapes.picture runs/demo docs/images/demo.png

One column per held-out task: the instruction, the source, and the edits from the same noise before and after training,
each with the judge's reward and a green frame if the oracle considers the edit a success.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from edit_r1.trainer.records.records import EvaluatedTask, read_evaluations

ZOOM = 3
CELL_PIXELS = 32 * ZOOM
GAP, HEAD, FOOT, MARGIN = 18, 58, 24, 64
ROWS = ("source", "before", "after")
BAND = HEAD + len(ROWS) * (CELL_PIXELS + FOOT)
PER_TYPE = 2
"""Number of tasks shown per type: the first ones in the task list."""
SUCCESS, FAILURE, TEXT = (40, 160, 80), (200, 70, 60), (40, 40, 40)


def draw(run_dir: Path) -> Image.Image:
    """The picture: PER_TYPE bands, each with one task of every type."""
    evaluations = read_evaluations(run_dir)
    (before_dir, before), (after_dir, after) = evaluations[0], evaluations[-1]
    bands = _bands([task for task in before.tasks if task.edited])
    later = {task.index: task for task in after.tasks}
    width = MARGIN + max(map(len, bands)) * (CELL_PIXELS + GAP)
    canvas = Image.new("RGB", (width, len(bands) * BAND), "white")
    pen = ImageDraw.Draw(canvas)
    for band, tasks in enumerate(bands):
        for row, name in enumerate(ROWS):
            pen.text((6, _top(band, row) + CELL_PIXELS // 2 - 8), name, TEXT, font=_font(15))
        for column, task in enumerate(tasks):
            left = MARGIN + column * (CELL_PIXELS + GAP)
            pen.text((left, band * BAND + 10), textwrap.fill(task.instruction, 16), TEXT, font=_font(12))
            _paste(canvas, before_dir / str(task.source), left, _top(band, 0))
            for row, (directory, edit) in enumerate(((before_dir, task), (after_dir, later[task.index])), start=1):
                _paste(canvas, directory / str(edit.edited), left, _top(band, row))
                _verdict(pen, edit, left, _top(band, row))
    return canvas


def _bands(tasks: list[EvaluatedTask]) -> list[list[EvaluatedTask]]:
    """Band i contains the i-th task of each type."""
    bands: list[dict[str | None, EvaluatedTask]] = [{} for _ in range(PER_TYPE)]
    for task in tasks:
        free = next((band for band in bands if task.task not in band), None)
        if free is not None:
            free[task.task] = task
    return [list(band.values()) for band in bands]


def _top(band: int, row: int) -> int:
    return band * BAND + HEAD + row * (CELL_PIXELS + FOOT)


def _paste(canvas: Image.Image, file: Path, left: int, top: int) -> None:
    canvas.paste(Image.open(file).resize((CELL_PIXELS, CELL_PIXELS), Image.Resampling.NEAREST), (left, top))


def _verdict(pen: ImageDraw.ImageDraw, edit: EvaluatedTask, left: int, top: int) -> None:
    color = SUCCESS if edit.metrics["oracle_success"] else FAILURE
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
