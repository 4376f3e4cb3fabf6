"""Pure: which part of a similarity map says how well a picture was kept, and the mean over that part."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float64]


def kept_mean(similarity: Map, may_change: NDArray[np.bool_] | None, kept_share: float) -> float:
    """The mean similarity of what should stay.

    Args:
        similarity: [H, W].
        may_change: [H, W], where the picture may change; None: unknown.
        kept_share: without `may_change`, the share of the pixels that is averaged: those that changed least.

    Raises:
        ValueError: the whole picture may change.

    """
    if may_change is not None:
        if may_change.all():
            raise ValueError("the mask lets the whole picture change, so nothing should stay")
        return float(similarity[~may_change].mean())
    number = max(1, round(kept_share * similarity.size))
    return float(np.partition(similarity, similarity.size - number, axis=None)[-number:].mean())
