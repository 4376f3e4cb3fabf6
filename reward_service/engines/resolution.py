"""The resolution at which a judge sees images: at most one megapixel, unless set otherwise or its own limit is lower.

Qwen-VL's image processor has bounds in pixels, which are replaced. Other processors count otherwise (GLM-4V in pixels
of all frames, InternVL in tiles, Gemma 3 not at all), so images are scaled before them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from PIL import Image

from edit_r1.shared.errors import ConfigError

DEFAULT_MAX_PIXELS = 1024 * 1024
"""Default upper bound: 1,024 to 1,337 visual tokens per image for Qwen-VL."""


@dataclass(frozen=True)
class Resolution:
    """How to scale images for one judge."""

    size: dict[str, int] | None
    """Qwen-VL's bounds in pixels, the image processor's `size`; None for other families."""
    is_own: bool
    """Whether `size` is the processor's own."""
    min_pixels: int | None = None
    """Bounds for images before the processor, for other families; None: no bound."""
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
        highest = max_pixels or DEFAULT_MAX_PIXELS
        _check(min_pixels or 0, highest)
        return Resolution(None, is_own=True, min_pixels=min_pixels, max_pixels=highest)
    highest = max_pixels or min(own["longest_edge"], DEFAULT_MAX_PIXELS)
    lowest = min_pixels or min(own["shortest_edge"], highest)
    _check(lowest, highest)
    size = {**own, "shortest_edge": lowest, "longest_edge": highest}
    return Resolution(size, is_own=size == own)


def _bounds(image_processor: Any) -> dict[str, int] | None:
    """The `size` of Qwen-VL's image processor, whose edges are numbers of pixels; None for another processor."""
    if not type(image_processor).__name__.startswith("Qwen2VLImageProcessor"):
        return None
    return {name: image_processor.size[name] for name in ("shortest_edge", "longest_edge")}


def _check(lowest: int, highest: int) -> None:
    if lowest > highest:
        raise ConfigError(
            f"min_judge_pixels: {lowest} is above the maximum of {highest} pixels; lower it, or raise max_judge_pixels"
        )
