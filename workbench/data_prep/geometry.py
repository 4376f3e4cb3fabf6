"""Boxes: clipping to the image, area fractions, and the outline drawn around them. Pure.

Legend: boxes are (x0, y0, x1, y1) in pixels, x1 and y1 exclusive; sizes are (width, height).
"""

from __future__ import annotations

import math

Box = tuple[float, float, float, float]
PixelBox = tuple[int, int, int, int]
Size = tuple[int, int]


def clip(box: Box, size: Size) -> Box | None:
    """The part of a box inside the image; None when there is none."""
    width, height = size
    x0, y0 = max(0.0, box[0]), max(0.0, box[1])
    x1, y1 = min(float(width), box[2]), min(float(height), box[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def area_fraction(box: Box, size: Size) -> float:
    """Fraction of the image covered by a box inside it."""
    return (box[2] - box[0]) * (box[3] - box[1]) / (size[0] * size[1])


def line_width(size: Size, fraction: float) -> int:
    """Line width in pixels: `fraction` of the image's shorter side, at least 1."""
    return max(1, round(fraction * min(size)))


def outline(box: Box, size: Size, width: int) -> PixelBox:
    """The outer edge of a line of `width` pixels drawn just around a box, clipped at the image border.

    Rounded outwards to whole pixels, so that the line covers the object only where it touches the image border.
    """
    return (
        max(0, math.floor(box[0]) - width),
        max(0, math.floor(box[1]) - width),
        min(size[0], math.ceil(box[2]) + width),
        min(size[1], math.ceil(box[3]) + width),
    )
