"""Is the policy learning to edit, or to please the judge? Numbers that show reward hacking, and alarms on them.

Enters: an epoch's scored groups, or the metrics of all epochs so far. Leaves: numbers, or alarms. Pure.
The signs are those of arXiv:2510.16888 Figure 8: the spread within groups collapses, the edits leave the source.
Legend: P groups, G candidates a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

ALARMS: Mapping[str, str] = {
    "group_std": "The rewards within a group hardly differ any more: there is nothing left to choose from.",
    "score_mass": "The judge puts little of its probability on score tokens: it does not mean to answer with a score.",
    "unedited_distance": "What should stay moves away from the source: edits repaint more than they were asked to.",
    "kl_to_base": "The policy has moved far from the model that training began with.",
    "second_gap": "The reward has risen by more than a second method that training does not see.",
    "missing": "Many candidates have no score.",
}
"""Name -> what it means, for people."""


@dataclass(frozen=True)
class AlarmLimits:
    """Thresholds; a value is compared after it was averaged over `window` epochs. None turns an alarm off."""

    window: int
    min_group_std: float | None
    min_score_mass: float | None
    max_unedited_growth: float | None
    """How many times the first window's distance."""
    max_kl_to_base: float | None
    max_second_gap: float | None
    """By how much the reward may have gained more than the second method since the first window."""
    max_missing_fraction: float | None


def find_alarms(epochs: Sequence[Mapping[str, float | None]], limits: AlarmLimits) -> set[str]:
    """The alarms that are on after the last of these epochs' metrics."""
    history = _History(epochs, limits.window)
    on = {
        "group_std": _below(history.recent("reward/group_std"), limits.min_group_std),
        "score_mass": _below(history.recent("reward/score_mass"), limits.min_score_mass),
        "kl_to_base": _above(history.recent("policy/kl_to_base"), limits.max_kl_to_base),
        "missing": _above(history.recent("reward/missing_fraction"), limits.max_missing_fraction),
        "unedited_distance": _above(history.growth("edit/unedited_distance"), limits.max_unedited_growth),
        "second_gap": _above(history.gain("reward/second_gap"), limits.max_second_gap),
    }
    return {name for name, is_on in on.items() if is_on}


def unedited_distance(source: Image.Image, edited: Image.Image) -> float:
    """How far the part of the picture that an edit should keep has moved, in [0, 1].

    The mean absolute difference of the half of the pixels that changed least: most edits touch less than half, so a
    policy that repaints everything shows here first. Both pictures have one size.
    """
    change = np.abs(np.asarray(source, np.float32) - np.asarray(edited, np.float32)).mean(axis=2).ravel() / 255
    kept = np.partition(change, change.size // 2)[: change.size // 2 + 1]
    return float(kept.mean())


def agreement(rewards_P_G: Tensor, second_P_G: Tensor) -> float:
    """Share of pairs within a group that both methods put in one order; a tie of either counts half.

    NaN (missing) takes no part; NaN without a pair.
    """
    ours = (rewards_P_G[:, :, None] - rewards_P_G[:, None, :]).sign()
    theirs = (second_P_G[:, :, None] - second_P_G[:, None, :]).sign()
    upper = torch.triu(torch.ones_like(ours[0], dtype=torch.bool), diagonal=1)
    known = upper & ~(rewards_P_G + second_P_G).isnan()[:, :, None] & ~(rewards_P_G + second_P_G).isnan()[:, None, :]
    return float(((ours * theirs + 1) / 2)[known].mean())


class _History:
    """Metrics over the epochs so far."""

    def __init__(self, epochs: Sequence[Mapping[str, float | None]], window: int) -> None:
        self._epochs, self._window = epochs, window

    def recent(self, name: str) -> float | None:
        """Mean over the last window; None before there is one."""
        values = self._values(name)
        return _mean(values[-self._window :]) if len(values) >= self._window else None

    def growth(self, name: str) -> float | None:
        """How many times the first window's mean the last one's is; None before they lie apart."""
        first, last = self._ends(name)
        return None if first is None or last is None or first <= 0 else last / first

    def gain(self, name: str) -> float | None:
        """By how much the last window's mean is above the first's; None before they lie apart."""
        first, last = self._ends(name)
        return None if first is None or last is None else last - first

    def _ends(self, name: str) -> tuple[float | None, float | None]:
        values = self._values(name)
        if len(values) < 2 * self._window:
            return None, None
        return _mean(values[: self._window]), _mean(values[-self._window :])

    def _values(self, name: str) -> list[float]:
        return [value for line in self._epochs if (value := line.get(name)) is not None]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _below(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value < limit


def _above(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value > limit
