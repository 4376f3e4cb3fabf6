"""The judge's reasoning, one short sentence in the world's vocabulary, and the recovery of scenes from images.

want blue circle top left, see red circle top left, rest kept
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from edit_r1.reward_service.methods.score_logit_cot import MARKER as SCORE_MARKER
from edit_r1.worlds.shapes.world.scenes import (
    BACKGROUNDS,
    CELL,
    CELL_NAMES,
    CELL_ORIGINS,
    COLORS,
    RADII,
    SHAPES,
    Item,
    Pixels,
    Scene,
    render,
)
from edit_r1.worlds.shapes.world.tasks import BACKGROUND_CELL, ShapesTask, sample_task, wrong_edit

__all__ = ["REASONING_START", "SCORE_MARKER", "read_scene", "reasoning", "reasoning_corpus", "same_item"]

REASONING_START = '"Reasoning": "'


def reasoning(task: ShapesTask, seen: Scene) -> str:
    """The requested content, what the edited image shows there, and whether the rest is correct."""
    place = "background" if task.cell == BACKGROUND_CELL else CELL_NAMES[task.cell]
    wanted, found = _at(task.target, task.cell), _at(seen, task.cell)
    rest = "kept" if _rest_matches(task, seen) else "changed"
    return f"want {wanted} {place}, see {found} {place}, rest {rest}"


def same_item(first: Item | None, second: Item | None) -> bool:
    """Whether shape and colour are equal; instructions do not mention the radius."""
    return (first and first.name) == (second and second.name)


def reasoning_corpus(num_tasks: int = 3000) -> list[str]:
    """Sentences to train the tokenizer on."""
    rng = np.random.default_rng(1)
    tasks = [sample_task(rng, "train") for _ in range(num_tasks)]
    return [f"{task.instruction} None {reasoning(task, wrong_edit(rng, task))}" for task in tasks]


def read_scene(picture: Pixels) -> Scene:
    """The scene whose rendering is nearest to an image: cell by cell, over all items on one common background."""
    names, items, templates = _templates()
    cells = np.stack([picture[y : y + CELL, x : x + CELL].reshape(-1) for x, y in CELL_ORIGINS]).astype(np.float32)
    # |c - t|^2 without |c|^2, which is the same for every template.
    errors = (templates**2).sum(1) - 2 * cells @ templates.T
    per_background = errors.reshape(len(CELL_ORIGINS), len(names), len(items))
    background = int(per_background.min(2).sum(0).argmin())
    first, second, third, fourth = (items[int(i)] for i in per_background[:, background].argmin(1))
    return Scene(names[background], (first, second, third, fourth))


@cache
def _templates() -> tuple[list[str], list[Item | None], npt.NDArray[np.float32]]:
    """Backgrounds, items (None first), and one cell's pixels for each pair, float32 [B * I, 768]."""
    names = list(BACKGROUNDS)
    items: list[Item | None] = [None, *(Item(s, c, r) for s in SHAPES for c in COLORS for r in RADII)]
    pictures = [
        render(Scene(name, (item, None, None, None)))[:CELL, :CELL].reshape(-1) for name in names for item in items
    ]
    return names, items, np.stack(pictures).astype(np.float32)


def _at(scene: Scene, cell: int) -> str:
    if cell == BACKGROUND_CELL:
        return scene.background
    item = scene.cells[cell]
    return item.name if item else "nothing"


def _rest_matches(task: ShapesTask, seen: Scene) -> bool:
    cells = [i for i in range(len(CELL_ORIGINS)) if i != task.cell]
    same_cells = all(same_item(seen.cells[i], task.target.cells[i]) for i in cells)
    return same_cells and (task.cell == BACKGROUND_CELL or seen.background == task.target.background)
