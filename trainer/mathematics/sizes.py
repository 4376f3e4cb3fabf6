"""Image sizes: one for all, or the bucket with the nearest aspect ratio; images are cut to shape or squeezed. Pure.

Legend: sizes are (width, height) in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

ImageSize = tuple[int, int]
Layout = tuple[ImageSize, ...]
"""The sizes of a group's sources, in order; groups must have the same layout to share a batch."""


@dataclass(frozen=True)
class ChooseSize:
    """Called with an image's own size, returns the size it is edited at."""

    sizes: tuple[ImageSize, ...]
    """The sizes to choose from; the one with the nearest aspect ratio is taken."""
    crops: bool
    """An image of another shape is cut evenly on both sides, so that shapes in it stay as they are; otherwise it is
    squeezed."""

    def __call__(self, size: ImageSize) -> ImageSize:
        """The size at which an image of this size is edited."""
        return nearest_size(size, self.sizes)

    def cut_fraction(self, size: ImageSize) -> float:
        """Fraction of an image of this size that is cut off, in [0, 1)."""
        if not self.crops:
            return 0.0
        own, chosen = size[0] / size[1], self(size)
        return 1.0 - min(own / (chosen[0] / chosen[1]), (chosen[0] / chosen[1]) / own)


def layout_of(sources: Sequence[Image.Image]) -> Layout:
    """The layout of a group with these sources."""
    return tuple(source.size for source in sources)


def bucket_sizes(area: int, multiple: int, max_ratio: float) -> tuple[ImageSize, ...]:
    """Sizes of about `area` pixels, both sides multiples of `multiple`, the longer at most max_ratio times the shorter.

    Includes the square nearest to the area and, for every width, the height that comes nearest to the area.
    """
    side = max(1, round(math.sqrt(area) / multiple)) * multiple
    sizes = {(side, side)}
    for columns in range(1, math.ceil(math.sqrt(area * max_ratio) / multiple) + 1):
        width = columns * multiple
        height = max(1, round(area / width / multiple)) * multiple
        if max(width, height) <= max_ratio * min(width, height):
            sizes |= {(width, height), (height, width)}
    return tuple(sorted(sizes))


def nearest_size(size: ImageSize, buckets: Sequence[ImageSize]) -> ImageSize:
    """The bucket whose aspect ratio is nearest to the image's on a log scale; the largest in case of a tie."""
    ratio = math.log(size[0] / size[1])
    return min(buckets, key=lambda one: (abs(math.log(one[0] / one[1]) - ratio), -one[0] * one[1]))


def one_size(size: ImageSize, *, crops: bool = True) -> ChooseSize:
    """Use this size for all images."""
    return ChooseSize((size,), crops)


def buckets(area: int, multiple: int, max_ratio: float) -> ChooseSize:
    """Use the nearest of `bucket_sizes` for each image."""
    return ChooseSize(bucket_sizes(area, multiple, max_ratio), crops=True)
