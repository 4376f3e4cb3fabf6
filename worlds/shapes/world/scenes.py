"""Scenes and their images: a scene is plain data, and `render` turns it into pixels.

A scene is a 2x2 grid of cells of 16x16 pixels on one background colour; a cell is empty or contains one coloured shape.
Everything else in this world (tasks, oracle, training data) is defined in terms of these two.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Pixels = npt.NDArray[np.uint8]
"""An RGB image, shape [32, 32, 3], 0..255."""

SIZE = 32
CELL = 16
CELL_ORIGINS = ((0, 0), (16, 0), (0, 16), (16, 16))
"""(x, y) of each cell's top left pixel, in the order of CELL_NAMES."""
CELL_NAMES = ("top left", "top right", "bottom left", "bottom right")

SHAPES = ("circle", "square", "triangle", "star")
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 170, 70),
    "blue": (50, 80, 220),
    "yellow": (240, 210, 50),
    "purple": (150, 60, 190),
    "white": (245, 245, 245),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "grey": (140, 140, 140),
    "pink": (250, 170, 195),
    "cyan": (140, 225, 235),
    "black": (20, 20, 20),
}
RADII = (5, 6)
_SUPERSAMPLING = 8


@dataclass(frozen=True)
class Item:
    """One shape in a cell: its form, its colour, and its radius in pixels (one of RADII)."""

    shape: str
    color: str
    radius: int = 6

    @property
    def name(self) -> str:
        """Its name in instructions, such as `red circle`."""
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """A background colour and four cells (order of CELL_NAMES), each an item or None."""

    background: str
    cells: tuple[Item | None, Item | None, Item | None, Item | None]

    def occupied(self) -> list[int]:
        """Indices of the cells with an item."""
        return [cell for cell, item in enumerate(self.cells) if item is not None]

    def free(self) -> list[int]:
        """Indices of the empty cells."""
        return [cell for cell, item in enumerate(self.cells) if item is None]

    def with_cell(self, cell: int, item: Item | None) -> Scene:
        """The same scene with one cell replaced."""
        cells = tuple(item if index == cell else old for index, old in enumerate(self.cells))
        return Scene(self.background, cells)  # type: ignore[arg-type]  # a 4-tuple stays a 4-tuple

    def to_json(self) -> dict[str, Any]:
        """Plain data for a task list's metadata; `from_json` inverts it."""
        return {"background": self.background, "cells": [asdict(i) if i else None for i in self.cells]}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Scene:
        """Inverse of `to_json`. Raises KeyError or TypeError on other data."""
        first, second, third, fourth = (Item(**cell) if cell else None for cell in data["cells"])
        return Scene(data["background"], (first, second, third, fourth))

    def digest(self) -> str:
        """A stable hash of the content, equal on every machine and run."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()


def render(scene: Scene) -> Pixels:
    """Draw a scene with anti-aliased edges; returns uint8 [32, 32, 3]."""
    picture = np.empty((SIZE, SIZE, 3), np.float32)
    picture[:] = BACKGROUNDS[scene.background]
    for (x, y), item in zip(CELL_ORIGINS, scene.cells, strict=True):
        if item is not None:
            coverage = _coverage(item.shape, item.radius)
            patch = picture[y : y + CELL, x : x + CELL]
            patch += coverage * (np.array(COLORS[item.color], np.float32) - patch)
    return (picture + 0.5).astype(np.uint8)


def box_of(cell: int, item: Item) -> tuple[int, int, int, int]:
    """The bounding box of an item in a cell: (x0, y0, x1, y1) in pixels, x1 and y1 exclusive."""
    rows, columns, _ = np.nonzero(_coverage(item.shape, item.radius))
    x, y = CELL_ORIGINS[cell]
    return x + int(columns.min()), y + int(rows.min()), x + int(columns.max()) + 1, y + int(rows.max()) + 1


def to_image(pixels: Pixels) -> Image.Image:
    """Pixels as a PIL image."""
    return Image.fromarray(pixels)


def to_pixels(image: Image.Image) -> Pixels:
    """The RGB pixels of a PIL image, resized to 32x32 if it has another size."""
    image = image.convert("RGB")
    return np.asarray(image if image.size == (SIZE, SIZE) else image.resize((SIZE, SIZE), Image.Resampling.BOX))


@cache
def _coverage(shape: str, radius: int) -> npt.NDArray[np.float32]:
    """Fraction of each pixel of a cell that a shape covers, float32 [16, 16, 1]."""
    k = _SUPERSAMPLING
    center, r = CELL * k / 2, radius * k
    canvas = Image.new("L", (CELL * k, CELL * k), 0)
    draw = ImageDraw.Draw(canvas)
    if shape == "circle":
        draw.ellipse([center - r, center - r, center + r, center + r], fill=255)
    elif shape == "square":
        draw.rectangle([center - 0.9 * r, center - 0.9 * r, center + 0.9 * r, center + 0.9 * r], fill=255)
    elif shape == "triangle":
        draw.polygon([(center, center - r), (center - r, center + 0.85 * r), (center + r, center + 0.85 * r)], fill=255)
    elif shape == "star":
        draw.polygon(_star_points(center, r), fill=255)
    else:
        raise ValueError(f"shape {shape!r} is unknown; known: {', '.join(SHAPES)}")
    small = canvas.resize((CELL, CELL), Image.Resampling.BOX)
    return (np.asarray(small, np.float32) / np.float32(255))[..., None]


def _star_points(center: float, radius: float) -> list[tuple[float, float]]:
    points = []
    for corner in range(10):
        angle = -math.pi / 2 + corner * math.pi / 5
        reach = radius * (1.1 if corner % 2 == 0 else 0.46)
        points.append((center + reach * math.cos(angle), center + reach * math.sin(angle)))
    return points
