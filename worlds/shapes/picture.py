"""The README's picture from a run of the demo: `python -m worlds.shapes.picture runs/demo docs/images/demo.png`.

One column a held-out task: the instruction, the source, the same noise edited before and after training, each with the
judge's reward and a green frame where the oracle calls the edit a success.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from trainer.records import EvaluatedTask, read_evaluations

ZOOM = 4
CELL_PIXELS = 32 * ZOOM
GAP, HEAD, FOOT, MARGIN = 16, 52, 20, 76
NUM_COLUMNS = 6
SUCCESS, FAILURE, TEXT = (40, 160, 80), (200, 70, 60), (40, 40, 40)


def draw(run_dir: Path, num_columns: int = NUM_COLUMNS) -> Image.Image:
    """The picture; the first kept task of each type, in the order of the task list."""
    evaluations = read_evaluations(run_dir)
    (before_dir, before), (after_dir, after) = evaluations[0], evaluations[-1]
    shown = _one_of_each_type([task for task in before.tasks if task.edited])[:num_columns]
    later = {task.index: task for task in after.tasks}
    height = HEAD + 3 * (CELL_PIXELS + FOOT) + GAP
    canvas = Image.new("RGB", (MARGIN + len(shown) * (CELL_PIXELS + GAP), height), "white")
    pen = ImageDraw.Draw(canvas)
    for row, name in enumerate(("source", "before", "after")):
        pen.text((8, HEAD + row * (CELL_PIXELS + FOOT) + CELL_PIXELS // 2), name, TEXT, font=_font(16))
    for column, task in enumerate(shown):
        left = MARGIN + column * (CELL_PIXELS + GAP)
        pen.text((left, 6), textwrap.fill(task.instruction, 19), TEXT, font=_font(13))
        _paste(canvas, before_dir / str(task.source), left, 0)
        for row, (directory, edit) in enumerate(((before_dir, task), (after_dir, later[task.index])), start=1):
            _paste(canvas, directory / str(edit.edited), left, row)
            _verdict(pen, edit, left, row)
    return canvas


def _one_of_each_type(tasks: list[EvaluatedTask]) -> list[EvaluatedTask]:
    first: dict[str | None, EvaluatedTask] = {}
    for task in tasks:
        first.setdefault(task.task, task)
    return list(first.values())


def _paste(canvas: Image.Image, file: Path, left: int, row: int) -> None:
    picture = Image.open(file).resize((CELL_PIXELS, CELL_PIXELS), Image.Resampling.NEAREST)
    canvas.paste(picture, (left, HEAD + row * (CELL_PIXELS + FOOT)))


def _verdict(pen: ImageDraw.ImageDraw, edit: EvaluatedTask, left: int, row: int) -> None:
    top = HEAD + row * (CELL_PIXELS + FOOT)
    color = SUCCESS if edit.metrics["oracle_success"] else FAILURE
    pen.rectangle([left - 3, top - 3, left + CELL_PIXELS + 2, top + CELL_PIXELS + 2], outline=color, width=3)
    reward = "no reward" if edit.reward is None else f"reward {edit.reward:.2f}"
    pen.text((left, top + CELL_PIXELS + 4), reward, color, font=_font(12))


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
