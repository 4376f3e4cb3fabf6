"""The oracle: how well an edit did what was asked and kept the rest, continuous in [0, 1], from pixels alone.

oracle = made * kept, where
    made  the share of the wanted change that is there, in the cell where it is worst;
    kept  how little the rest of the picture moved, in the cell where it moved most.

The trainer never sees it; it is the measure of whether learning from the judge helped. `score` and `success` have the
signature of the trainer's evaluation metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from PIL import Image

from edit_r1.worlds.shapes.world.scenes import CELL, CELL_ORIGINS, Pixels, Scene, render, to_pixels

SUCCESS_THRESHOLD = 0.6
_CHANGED = 0.06  # a pixel belongs to the wanted change when some channel moves by more than this (of 1)
_FREE_ERROR, _ERROR_SLOPE = 0.05, 1.6  # relative error that costs nothing; how fast more of it costs
_FREE_DRIFT, _FULL_DRIFT = (
    0.02,
    0.12,
)  # mean absolute drift that costs nothing; the span over which it costs all


class HasMetadata(Protocol):
    """What a metric needs of a task: the metadata of its line in the task list."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Has the keys `source` and `target`, scenes as `Scene.to_json` writes them."""
        ...


def score(task: HasMetadata, edited: Image.Image) -> float:
    """The oracle of one edit. Raises KeyError when the task does not carry its scenes."""
    source = render(Scene.from_json(task.metadata["source"]))
    target = render(Scene.from_json(task.metadata["target"]))
    return score_pixels(source, target, to_pixels(edited))


def success(task: HasMetadata, edited: Image.Image) -> float:
    """1.0 when the oracle is at least SUCCESS_THRESHOLD, else 0.0."""
    return float(score(task, edited) >= SUCCESS_THRESHOLD)


def score_pixels(source: Pixels, target: Pixels, edited: Pixels) -> float:
    """The oracle on pictures, each uint8 [32, 32, 3]."""
    made, kept = made_and_kept(source, target, edited)
    return made * kept


def made_and_kept(source: Pixels, target: Pixels, edited: Pixels) -> tuple[float, float]:
    """The oracle's two factors on pictures, each uint8 [32, 32, 3]."""
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
