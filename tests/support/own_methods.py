"""Methods of a user's own, as the setting `methods` names them: a chat method and a measure."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from edit_r1.reward_service.measures.base import Measure
from edit_r1.reward_service.methods import yes_no_logit
from edit_r1.reward_service.methods.base import Method, Templates
from edit_r1.reward_service.types import Edit, Score
from edit_r1.shared.errors import MeasureError


class Redness(Measure):
    """Mean of the red channel; edits larger than `largest` pixels are refused, larger than 1000 it breaks."""

    description = "How red the picture is."
    raw_score_max = 255.0
    parts = ("green",)
    calls: list[int] = []  # noqa: RUF012 - shared on purpose: the number of edits of each call

    def __init__(self, largest: int = 100) -> None:
        self._largest = largest
        self._loaded = False

    def load(self) -> None:
        self._loaded = True

    def score(self, edits: Sequence[Edit]) -> Sequence[Score | MeasureError]:
        assert self._loaded
        assert threading.current_thread() is not threading.main_thread()
        self.calls.append(len(edits))
        return [self._one(edit) for edit in edits]

    def _one(self, edit: Edit) -> Score | MeasureError:
        width = edit.candidate.pixels.width
        if width > 1000:
            raise RuntimeError("broken")
        if width > self._largest:
            return MeasureError(f"the width is {width}; the limit is {self._largest}")
        red, green, _ = np.asarray(edit.candidate.pixels).reshape(-1, 3).mean(axis=0)
        return Score(float(red), parts={"green": float(green) / 255}, details={"instruction": edit.brief.instruction})


def own_yes_no(template: Templates) -> Method:
    """A chat method."""
    return yes_no_logit.method(template)


def no_method(template: Templates) -> object:
    """Not a Method."""
    return template("score")
