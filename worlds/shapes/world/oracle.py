"""The oracle: how well an edit followed the instruction and kept the rest, continuous in [0, 1], from pixels alone.

oracle = made * kept, where
    made  is the share of the wanted change that was made, in the worst cell;
    kept  is how little the rest of the image changed, in the cell where it changed most.

Training never uses it; it measures whether learning from the judge helped. `score` and `success` have the signature of
the trainer's evaluation metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from PIL import Image

from edit_r1.worlds.shapes.world.scenes import CELL, CELL_ORIGINS, Pixels, Scene, render, to_pixels

SUCCESS_THRESHOLD = 0.6
_CHANGED = 0.06  # a pixel belongs to the wanted change if some channel changes by more than this (out of 1)
_FREE_ERROR, _ERROR_SLOPE = 0.05, 1.6  # relative error without penalty; slope of the penalty beyond it
_FREE_DRIFT, _FULL_DRIFT = (
    0.02,
    0.12,
)  # mean absolute drift without penalty; further drift at which the penalty is complete


class HasMetadata(Protocol):
    """The part of a task that a metric needs: the metadata of its line in the task list."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Has the keys `source` and `target`, scenes in the format of `Scene.to_json`."""
        ...


def score(task: HasMetadata, edited: Image.Image) -> float:
    """The oracle score of one edit. Raises KeyError if the task's metadata has no scenes."""
    source = render(Scene.from_json(task.metadata["source"]))
    target = render(Scene.from_json(task.metadata["target"]))
    return score_pixels(source, target, to_pixels(edited))


def success(task: HasMetadata, edited: Image.Image) -> float:
    """1.0 if the oracle score is at least SUCCESS_THRESHOLD, else 0.0."""
    return float(score(task, edited) >= SUCCESS_THRESHOLD)


def score_pixels(source: Pixels, target: Pixels, edited: Pixels) -> float:
    """The oracle score of images, each uint8 [32, 32, 3]."""
    made, kept = made_and_kept(source, target, edited)
    return made * kept


def made_and_kept(source: Pixels, target: Pixels, edited: Pixels) -> tuple[float, float]:
    """The oracle's two factors for images, each uint8 [32, 32, 3]."""
    before, wanted, got = (np.asarray(p, np.float32) / 255 for p in (source, target, edited))
    to_change = np.abs(before - wanted).max(-1) > _CHANGED
    error, change = np.abs(got - wanted).mean(-1), np.abs(before - wanted).mean(-1)
    made, drift = 1.0, 0.0
    for x, y in CELL_ORIGINS:
        window = (slice(y, y + CELL), slice(x, x + CELL))
        inside = to_change[window]
        if inside.sum() > 3:
            relative = error[window][inside].mean() / (change[window][inside].mean() + 1e-6)
            made = min(made, 1 - float(np.clip((relative - _FREE_ERROR) * _ERROR_SLOPE, 0, 1)))
        if (~inside).sum() > 10:
            drift = max(drift, float(error[window][~inside].mean()))
    kept = 1 - float(np.clip((drift - _FREE_DRIFT) / _FULL_DRIFT, 0, 1))
    return made, kept
