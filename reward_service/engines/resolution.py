"""The resolution at which a judge sees images: at most about one megapixel, unless its own limit is lower.

Qwen-VL and GLM-4V take images of any size; their processors are given other bounds. The other families have a fixed
number of tokens or tiles per image; images are scaled before their processors, and only if a bound is set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from PIL import Image

from edit_r1.shared.errors import ConfigError

DEFAULT_MAX_PIXELS = 1024 * 1024
"""Upper bound for families that take images of any size: 1,024 to 1,369 visual tokens per image."""


@dataclass(frozen=True)
class Resolution:
    """How to scale images for one judge."""

    size: dict[str, int] | None
    """The image processor's `size`: its bounds in pixels; None for families without such bounds."""
    is_own: bool
    """Whether `size` is the processor's own."""
    min_pixels: int | None = None
    """Bounds for images before the processor, for families without bounds of their own; None: no bound."""
    max_pixels: int | None = None

    def scaled(self, image: Image.Image) -> Image.Image:
        """The image as the processor gets it: scaled into the bounds, keeping its shape."""
        pixels = image.width * image.height
        wanted = min(max(pixels, self.min_pixels or 0), self.max_pixels or math.inf)
        if wanted == pixels:
            return image
        factor = math.sqrt(wanted / pixels)
        rounded = math.floor if factor < 1 else math.ceil
        width, height = (max(1, rounded(side * factor)) for side in image.size)
        return image.resize((width, height), Image.Resampling.BICUBIC)


def choose_resolution(image_processor: Any, min_pixels: int | None, max_pixels: int | None) -> Resolution:
    """The resolution for an image processor and the settings `min_judge_pixels` and `max_judge_pixels`.

    Raises:
        ConfigError: the minimum is above the maximum.

    """
    own = _bounds(image_processor)
    if own is None:
        _check(min_pixels or 0, max_pixels or math.inf)
        return Resolution(None, is_own=True, min_pixels=min_pixels, max_pixels=max_pixels)
    highest = max_pixels or min(own["longest_edge"], DEFAULT_MAX_PIXELS)
    lowest = min_pixels or min(own["shortest_edge"], highest)
    _check(lowest, highest)
    size = {**own, "shortest_edge": lowest, "longest_edge": highest}
    return Resolution(size, is_own=size == own)


def _bounds(image_processor: Any) -> dict[str, int] | None:
    """The `size` of a processor whose edges are numbers of pixels, not sides; else None."""
    size = dict(getattr(image_processor, "size", None) or {})
    edges = {name for name, value in size.items() if value is not None}
    merges = getattr(image_processor, "merge_size", None) is not None
    if not merges or edges != {"shortest_edge", "longest_edge"}:
        return None
    return {name: size[name] for name in ("shortest_edge", "longest_edge")}


def _check(lowest: float, highest: float) -> None:
    if lowest > highest:
        raise ConfigError(
            f"min_judge_pixels: {lowest} is above the maximum of {highest} pixels; lower it, or raise max_judge_pixels"
        )
