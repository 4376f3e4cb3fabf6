"""The definition of a measure: it scores a group's edits itself, in a thread, instead of asking the judge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from edit_r1.reward_service.types import Edit, Score
from edit_r1.shared.errors import MeasureError


class Measure(ABC):
    """A scoring method that asks the judge nothing. Its constructor takes its options and loads nothing."""

    description: ClassVar[str]
    """One sentence for GET /v1/methods."""
    raw_score_min: float = 0.0
    raw_score_max: float = 1.0
    parts: tuple[str, ...] = ()
    """Names of the sub-scores that its scores may have."""

    def load(self) -> None:
        """Load what it needs; called once, in a thread, before the judge is loaded.

        Raises:
            ConfigError: a package or file is missing; the message says which, and how to get it.

        """
        return

    @abstractmethod
    def score(self, edits: Sequence[Edit]) -> Sequence[Score | MeasureError]:
        """The score of each edit, in order, or why it has none. All edits have the same brief.

        Called in a thread of the measure's own, one call at a time. An exception fails all of these edits.
        """
