"""Training data of the judge: edits of every quality with oracle scores, and labels for each step of the judgement.

There are two families of damage: SEEN kinds are for training, UNSEEN kinds for evaluation only.
Legend: N examples, 4 cells, 8 visual tokens (4 of the original, 4 of the edit).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from edit_r1.worlds.shapes.training.judge_words import read_scene, reasoning, same_item
from edit_r1.worlds.shapes.world.oracle import score_pixels
from edit_r1.worlds.shapes.world.scenes import BACKGROUNDS, COLORS, SHAPES, SIZE, Item, Pixels, Scene, render
from edit_r1.worlds.shapes.world.tasks import ShapesTask, Split, sample_task, wrong_edit

Rng = np.random.Generator
Corruption = Callable[[Rng, Pixels, Pixels, Pixels], Pixels]
"""(rng, edited, source, target) -> damaged edit."""


@dataclass(frozen=True)
class Example:
    """One edit with its oracle score."""

    task: ShapesTask
    edited: Pixels
    oracle: float


@dataclass(frozen=True)
class Labels:
    """Class labels for every step of the judgement, int64; see `label`."""

    cells: Tensor
    """[N, 8, 3] shape, colour, background of each visual token's cell."""
    wish: Tensor
    """[N, 4] cell named by the instruction (4: background), and shape, colour, background wanted there."""
    seen: Tensor
    """[N, 3] shape, colour, background in the edit at the named cell."""
    right: Tensor
    """[N, 5] whether each of the 4 cells, and the background, matches the target."""


WISH_SIZES = (5, len(SHAPES) + 1, len(COLORS) + 1, len(BACKGROUNDS))
CELL_SIZES = WISH_SIZES[1:]
RIGHT_SIZES = (2,) * 5


def draw(
    rng: Rng, split: Split, kinds: Sequence[Corruption], right_share: float = 0.4, damaged: float = 0.5
) -> Example:
    """A random task with a right or wrong edit, sometimes damaged."""
    task = sample_task(rng, split)
    return Example(task, *draw_edit(rng, task, kinds, right_share, damaged))


def draw_edit(
    rng: Rng, task: ShapesTask, kinds: Sequence[Corruption], right_share: float, damaged: float
) -> tuple[Pixels, float]:
    """One edit of a task and its oracle score."""
    source, target = render(task.source), render(task.target)
    edited = target if rng.random() < right_share else render(wrong_edit(rng, task))
    if rng.random() < damaged:
        edited = kinds[int(rng.integers(len(kinds)))](rng, edited, source, target)
    return edited, score_pixels(source, target, edited)


def label(examples: Sequence[Example]) -> tuple[Labels, list[str]]:
    """Labels and reasoning of examples; the content of an edit is recovered from its pixels."""
    cells, wish, seen, right, words = [], [], [], [], []
    for example in examples:
        task, shown = example.task, read_scene(example.edited)
        cells.append([(*_classes(item), _background(s)) for s in (task.source, shown) for item in s.cells])
        wish.append((task.cell, *_classes_at(task.target, task.cell)))
        seen.append(_classes_at(shown, task.cell))
        same = [same_item(a, b) for a, b in zip(shown.cells, task.target.cells, strict=True)]
        right.append([*map(int, same), int(shown.background == task.target.background)])
        words.append(reasoning(task, shown))
    return Labels(torch.tensor(cells), torch.tensor(wish), torch.tensor(seen), torch.tensor(right)), words


def blend(rng: Rng, edited: Pixels, source: Pixels, target: Pixels) -> Pixels:
    """A partial edit: blended back towards the source, or towards the target."""
    other = source if rng.random() < 0.7 else target
    share = rng.uniform(0, 0.9)
    return _pixels((1 - share) * edited.astype(np.float32) + share * other)


def noise(rng: Rng, edited: Pixels, source: Pixels, target: Pixels) -> Pixels:  # noqa: ARG001
    """Gaussian noise of up to 18/255."""
    return _pixels(edited + rng.normal(0, rng.uniform(0, 18), edited.shape))


def blur(rng: Rng, edited: Pixels, source: Pixels, target: Pixels) -> Pixels:  # noqa: ARG001
    """Downsampled to half the size and back up, blended in."""
    half = Image.fromarray(edited).resize((SIZE // 2, SIZE // 2), Image.Resampling.BOX)
    soft = np.asarray(half.resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float32)
    share = rng.uniform(0.3, 1)
    return _pixels((1 - share) * edited + share * soft)


def tint(rng: Rng, edited: Pixels, source: Pixels, target: Pixels) -> Pixels:  # noqa: ARG001
    """One half of the image, or all of it, drifts towards a random colour, as editors do to backgrounds."""
    drifted = edited.astype(np.float32)
    window = [(slice(None), slice(None)), (slice(SIZE // 2), slice(None)), (slice(None), slice(SIZE // 2))]
    where = window[int(rng.integers(len(window)))]
    drifted[where] += rng.uniform(0.02, 0.35) * (rng.uniform(0, 255, 3) - drifted[where])
    return _pixels(drifted)


def jpeg(rng: Rng, edited: Pixels, source: Pixels, target: Pixels) -> Pixels:  # noqa: ARG001
    """JPEG at quality 10..50."""
    buffer = io.BytesIO()
    Image.fromarray(edited).save(buffer, "JPEG", quality=int(rng.integers(10, 50)))
    return np.asarray(Image.open(buffer).convert("RGB"))


def salt_and_pepper(rng: Rng, edited: Pixels, source: Pixels, target: Pixels) -> Pixels:  # noqa: ARG001
    """1-8 % of the pixels become black or white."""
    speckled = edited.copy()
    chosen = rng.random((SIZE, SIZE)) < rng.uniform(0.01, 0.08)
    speckled[chosen] = np.where(rng.random(int(chosen.sum())) < 0.5, 0, 255)[:, None]
    return speckled


def shift(rng: Rng, edited: Pixels, source: Pixels, target: Pixels) -> Pixels:  # noqa: ARG001
    """The image shifts by one or two pixels."""
    return np.roll(edited, int(rng.integers(1, 3)) * (1 if rng.random() < 0.5 else -1), axis=int(rng.integers(2)))


def gamma(rng: Rng, edited: Pixels, source: Pixels, target: Pixels) -> Pixels:  # noqa: ARG001
    """Brighter or darker by a gamma of 0.6..1.6."""
    return _pixels(255 * (edited / 255) ** rng.uniform(0.6, 1.6))


def patch(rng: Rng, edited: Pixels, source: Pixels, target: Pixels) -> Pixels:  # noqa: ARG001
    """A rectangle of one random colour covers part of the image."""
    covered = edited.copy()
    (x, y), (width, height) = rng.integers(0, SIZE - 6, 2), rng.integers(3, 10, 2)
    covered[y : y + height, x : x + width] = rng.integers(0, 256, 3)
    return covered


SEEN: tuple[Corruption, ...] = (blend, noise, blur, tint, blend)
UNSEEN: tuple[Corruption, ...] = (jpeg, salt_and_pepper, shift, gamma, patch)


def _classes(item: Item | None) -> tuple[int, int]:
    return (0, 0) if item is None else (1 + SHAPES.index(item.shape), 1 + list(COLORS).index(item.color))


def _background(scene: Scene) -> int:
    return list(BACKGROUNDS).index(scene.background)


def _classes_at(scene: Scene, cell: int) -> tuple[int, int, int]:
    item = scene.cells[cell] if cell < len(scene.cells) else None
    return (*_classes(item), _background(scene))


def _pixels(values: np.ndarray) -> Pixels:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)
