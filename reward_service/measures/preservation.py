"""`preservation`: how well what should stay is the same as in the source, by SSIM and, with its weights, LPIPS.

Both give a value per pixel. With a mask, the mean is over the pixels outside it, and what the edit did inside has no
effect. Without one, it is over the pixels that changed least (`kept_share`): an edit of a small part costs nothing, a
redrawn picture does.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edit_r1.reward_service.measures.base import Measure
from edit_r1.reward_service.measures.kept import Map, kept_mean
from edit_r1.reward_service.measures.packages import need
from edit_r1.reward_service.types import Edit, Score
from edit_r1.shared.errors import MeasureError

if TYPE_CHECKING:
    from edit_r1.reward_service.measures.lpips import Lpips

_SMALLEST_SIDE = 16
_SHAPE_TOLERANCE = 0.02
"""Largest relative difference of the side ratios: editors round sides to multiples of 8 or 16."""


class Preservation(Measure):
    """Similarity to the first source.

    Args:
        lpips_weights: file of torchvision's AlexNet weights (.safetensors, or .pth of tensors); None: no LPIPS.
        kept_share: share of the pixels that should stay if the request has no mask.
        max_pixels: larger pictures are scaled down to this size before they are compared.
        device: torch's name of the device for LPIPS.

    """

    description = "How well what should stay is the same as in the source: outside the mask, or where least changed."

    def __init__(
        self,
        lpips_weights: str | None = None,
        kept_share: float = 0.5,
        max_pixels: int = 1024 * 1024,
        device: str = "cpu",
    ) -> None:
        if not 0 < kept_share <= 1:
            raise ValueError(f"kept_share: {kept_share}; expected more than 0, at most 1")
        if max_pixels < _SMALLEST_SIDE**2:
            raise ValueError(f"max_pixels: {max_pixels}; expected at least {_SMALLEST_SIDE**2}")
        self._kept_share, self._max_pixels = kept_share, max_pixels
        self._weights, self._device = lpips_weights, device
        self._lpips: Lpips | None = None
        self.parts = ("ssim", "lpips") if lpips_weights else ("ssim",)

    def load(self) -> None:
        """Import the metrics and load LPIPS, if its weights are given."""
        need("torchmetrics.functional.image", "preservation")
        if self._weights:
            from edit_r1.reward_service.measures.lpips import Lpips  # noqa: PLC0415 - needs torch

            self._lpips = Lpips(self._weights, self._device)

    def score(self, edits: Sequence[Edit]) -> Sequence[Score | MeasureError]:
        """Each edit's mean over its similarities."""
        return [self._one(edit) for edit in edits]

    def _one(self, edit: Edit) -> Score | MeasureError:
        source, candidate = edit.brief.sources[0].pixels, edit.candidate.pixels
        size = self._size(source)
        if min(size) < _SMALLEST_SIDE:
            return MeasureError(f"preservation: the source is {_name(source)}; sides must be at least {_SMALLEST_SIDE}")
        if not _same_shape(source, candidate):
            return MeasureError(f"preservation: the picture is {_name(candidate)}, its source {_name(source)}")
        before, after = _array(source, size), _array(candidate, size)
        may_change = _mask(edit, size)
        if may_change is not None:
            after[may_change] = before[may_change]  # windows at the mask's edge look inside
        try:
            parts = {name: kept_mean(one, may_change, self._kept_share) for name, one in self._maps(before, after)}
        except ValueError as error:
            return MeasureError(f"preservation: {error}")
        bounded = {name: min(1.0, max(0.0, value)) for name, value in parts.items()}
        return Score(fmean(bounded.values()), parts=bounded, details={"masked": may_change is not None})

    def _maps(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> list[tuple[str, Map]]:
        found = [("ssim", _ssim(before, after))]
        return [*found, ("lpips", self._lpips.similarity(before, after))] if self._lpips else found

    def _size(self, image: Image.Image) -> tuple[int, int]:
        """(width, height) at which pictures are compared."""
        scale = min(1.0, (self._max_pixels / (image.width * image.height)) ** 0.5)
        return int(image.width * scale), int(image.height * scale)


def _ssim(before: NDArray[np.float32], after: NDArray[np.float32]) -> Map:
    """[H, W] structural similarity with Gaussian windows, the mean over the channels."""
    import torch  # noqa: PLC0415 - heavy, and not needed to parse settings
    from torchmetrics.functional.image import structural_similarity_index_measure  # noqa: PLC0415

    new, old = (torch.from_numpy(one).permute(2, 0, 1)[None] for one in (after, before))
    _, whole = structural_similarity_index_measure(new, old, data_range=1.0, return_full_image=True)
    found: Map = whole[0].mean(0).double().numpy()
    return found


def _array(image: Image.Image, size: tuple[int, int]) -> NDArray[np.float32]:
    """[H, W, 3] in [0, 1]."""
    scaled = image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(scaled, dtype=np.float32) / np.float32(255)


def _mask(edit: Edit, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """[H, W], where the picture may change; None: the request has no mask."""
    if edit.brief.mask is None:
        return None
    grey = edit.brief.mask.pixels.convert("L").resize(size, Image.Resampling.NEAREST)
    return np.asarray(grey) >= 128


def _same_shape(one: Image.Image, other: Image.Image) -> bool:
    ratio = (one.width * other.height) / (one.height * other.width)
    return abs(ratio - 1) <= _SHAPE_TOLERANCE


def _name(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"
