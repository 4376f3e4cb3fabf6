"""Edit tasks on scenes: an instruction, its source scene, and the target scene that it leads to.

Training and held-out tasks are split by a hash of the *source scene*, so no image is ever in both splits; all training
(editor, judge, policy) samples from "train", all evaluation from "held_out".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from edit_r1.worlds.shapes.world.scenes import BACKGROUNDS, CELL_NAMES, COLORS, RADII, SHAPES, Item, Scene

Split = Literal["train", "held_out"]
TASKS = ("adjust", "remove", "replace", "background", "add", "extract")
BACKGROUND_CELL = 4
"""The `cell` of a task that concerns the background."""
_HELD_OUT_SHARE = 0.2
_T = TypeVar("_T")


@dataclass(frozen=True)
class ShapesTask:
    """One edit: an `instruction` of type `task` for a `source`, and the `target` that fulfils it.

    `cell` is the cell the instruction names: 0..3, or BACKGROUND_CELL.
    """

    instruction: str
    task: str
    source: Scene
    target: Scene
    cell: int


def split_of(source: Scene) -> Split:
    """The split a source scene belongs to; a fixed function of its content."""
    return "held_out" if int(source.digest()[:8], 16) / 2**32 < _HELD_OUT_SHARE else "train"


def sample_scene(rng: np.random.Generator, split: Split, max_items: int = 3) -> Scene:
    """A random scene of one split, with 1..max_items items that differ in shape or colour."""
    while True:
        scene = _any_scene(rng, max_items)
        if split_of(scene) == split:
            return scene


def sample_task(rng: np.random.Generator, split: Split) -> ShapesTask:
    """A random task on a random scene of one split; task types are about equally frequent."""
    wanted = _pick(rng, TASKS)
    while True:
        source = sample_scene(rng, split)
        if wanted in possible_tasks(source):
            return edit(rng, source, wanted)


def possible_tasks(source: Scene) -> tuple[str, ...]:
    """The task types that are possible for a scene."""
    occupied = len(source.occupied())
    ruled_out = {"add"} if occupied == len(source.cells) else set()
    if occupied < 2:
        ruled_out.add("extract")
    if occupied < 1:
        ruled_out |= {"adjust", "remove", "replace"}
    return tuple(task for task in TASKS if task not in ruled_out)


def edit(rng: np.random.Generator, source: Scene, task: str) -> ShapesTask:
    """A random instruction of one type for a scene, with its target. Raises ValueError if the type is not possible."""
    if task not in possible_tasks(source):
        raise ValueError(f"task {task!r} is not possible here; possible: {', '.join(possible_tasks(source))}")
    if task == "background":
        color = _pick(rng, [c for c in BACKGROUNDS if c != source.background])
        target = Scene(color, source.cells)
        return ShapesTask(f"make the background {color}", task, source, target, BACKGROUND_CELL)
    if task == "add":
        cell, item = _pick(rng, source.free()), Item(_pick(rng, SHAPES), _pick(rng, list(COLORS)))
        instruction = f"add a {item.name} at the {CELL_NAMES[cell]}"
        return ShapesTask(instruction, task, source, source.with_cell(cell, item), cell)
    return _edit_of_item(rng, source, task)


def wrong_edit(rng: np.random.Generator, task: ShapesTask) -> Scene:
    """A plausible failure: nothing changed, the wrong thing changed, or the right change with damage elsewhere."""
    kind = rng.random()
    if kind < 0.4:
        return task.source
    base = task.source if kind < 0.75 else task.target
    possible = possible_tasks(base)
    same_type = task.task in possible and rng.random() < 0.7 and kind < 0.75
    return edit(rng, base, task.task if same_type else _pick(rng, possible)).target


def _edit_of_item(rng: np.random.Generator, source: Scene, task: str) -> ShapesTask:
    cell = _pick(rng, source.occupied())
    item = source.cells[cell]
    assert item is not None  # noqa: S101  # guaranteed by occupied()
    if task == "adjust":
        color = _pick(rng, [c for c in COLORS if c != item.color])
        instruction = f"change the {item.name} to {color}"
        target = source.with_cell(cell, Item(item.shape, color, item.radius))
    elif task == "replace":
        shape = _pick(rng, [s for s in SHAPES if s != item.shape])
        instruction = f"replace the {item.name} with a {shape}"
        target = source.with_cell(cell, Item(shape, item.color, item.radius))
    elif task == "remove":
        instruction = f"remove the {item.name}"
        target = source.with_cell(cell, None)
    else:
        instruction = f"keep only the {item.name}"
        target = Scene(source.background, (None, None, None, None)).with_cell(cell, item)
    return ShapesTask(instruction, task, source, target, cell)


def _any_scene(rng: np.random.Generator, max_items: int) -> Scene:
    scene = Scene(_pick(rng, list(BACKGROUNDS)), (None, None, None, None))
    names: set[str] = set()
    for cell in rng.permutation(4)[: int(rng.integers(1, max_items + 1))]:
        item = Item(_pick(rng, SHAPES), _pick(rng, list(COLORS)), _pick(rng, RADII))
        if item.name not in names:
            names.add(item.name)
            scene = scene.with_cell(int(cell), item)
    return scene


def _pick(rng: np.random.Generator, options: Sequence[_T]) -> _T:
    return options[int(rng.integers(len(options)))]
