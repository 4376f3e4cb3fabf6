"""Is the policy learning to edit, or to please the judge? Indicators of reward hacking, and alarms on them.

Pure functions: indicators from an epoch's scored groups, alarms from the metrics of all epochs so far.
The signs are those of arXiv:2510.16888 Figure 8: the spread within groups collapses, the edits drift from the source.
Legend: P groups, G candidates per group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

ALARMS: Mapping[str, str] = {
    "group_std": "Rewards within a group hardly differ any more, so there is little left to learn from.",
    "score_mass": "The judge puts little probability on score tokens, so its scores may be meaningless.",
    "unedited_distance": "Regions that should stay drift from the source: edits repaint more than instructed.",
    "kl_to_base": "The policy has moved far from the base model.",
    "second_gap": "The reward has risen by more than the second method's score, which training does not use.",
    "missing": "Many candidates have no score.",
}
"""Alarm name -> its explanation."""


@dataclass(frozen=True)
class AlarmLimits:
    """Alarm thresholds, compared with values averaged over `window` epochs. None disables an alarm."""

    window: int
    min_group_std: float | None
    min_score_mass: float | None
    max_unedited_growth: float | None
    """Maximum ratio to the first window's distance."""
    max_kl_to_base: float | None
    max_second_gap: float | None
    """Maximum gain of the reward over the second method's score since the first window."""
    max_missing_fraction: float | None


def find_alarms(epochs: Sequence[Mapping[str, int | float | None]], limits: AlarmLimits) -> set[str]:
    """The alarms that are on after the last of these epochs."""
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
    """How far the part of the image that an edit should keep has changed, in [0, 1].

    This is the mean absolute difference of the half of the pixels that changed least: most edits touch less than half,
    so a policy that repaints everything shows up here first. Both images must have the same size.
    """
    change = np.abs(np.asarray(source, np.float32) - np.asarray(edited, np.float32)).mean(axis=2).ravel() / 255
    kept = np.partition(change, change.size // 2)[: change.size // 2 + 1]
    return float(kept.mean())


def agreement(rewards_P_G: Tensor, second_P_G: Tensor) -> float:
    """Share of pairs within groups that both methods order the same way; a tie in either counts half.

    NaN (missing) scores are ignored; returns NaN when there is no pair.
    """
    ours = (rewards_P_G[:, :, None] - rewards_P_G[:, None, :]).sign()
    theirs = (second_P_G[:, :, None] - second_P_G[:, None, :]).sign()
    upper = torch.triu(torch.ones_like(ours[0], dtype=torch.bool), diagonal=1)
    known = upper & ~(rewards_P_G + second_P_G).isnan()[:, :, None] & ~(rewards_P_G + second_P_G).isnan()[:, None, :]
    return float(((ours * theirs + 1) / 2)[known].mean())


class _History:
    """Metrics over the epochs so far."""

    def __init__(self, epochs: Sequence[Mapping[str, int | float | None]], window: int) -> None:
        self._epochs, self._window = epochs, window

    def recent(self, name: str) -> float | None:
        """Mean over the last window; None before a full window exists."""
        values = self._values(name)
        return _mean(values[-self._window :]) if len(values) >= self._window else None

    def growth(self, name: str) -> float | None:
        """Ratio of the last window's mean to the first's; None while the windows overlap."""
        first, last = self._ends(name)
        return None if first is None or last is None or first <= 0 else last / first

    def gain(self, name: str) -> float | None:
        """Difference of the last window's mean and the first's; None while the windows overlap."""
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
