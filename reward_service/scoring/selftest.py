"""Start-up checks: all labels are single tokens, and golden edits score in the right order.

A short version of `edit-r1 selftest` inside the service, with the default method and a few golden groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edit_r1.reward_service.engines.base import Engine
from edit_r1.reward_service.methods.base import Method
from edit_r1.reward_service.scoring.scorer import Scorer
from edit_r1.shared.errors import UnsuitableModelError
from edit_r1.shared.golden_edits import MIN_ORDERED_SHARE, Golden, required_share, scores_by_quality
from edit_r1.shared.schemas import CandidateError


def check_labels(engine: Engine, methods: Mapping[str, Method]) -> None:
    """Raise UnsuitableModelError if a label of a method is not a single token of this model."""
    for method in methods.values():
        engine.chat.label_ids(method.labels)


async def check_order(scorer: Scorer, calibration: Sequence[Golden]) -> float:
    """Score golden edits and return the share of pairs in which the done edit beats an untouched or wrong one.

    Raises:
        UnsuitableModelError: an edit has no score, or the share is below MIN_ORDERED_SHARE.

    """
    scores = []
    for golden in calibration:
        answer = await scorer.score(golden.group, "self-test")
        failed = [result.error.message for result in answer.results if isinstance(result, CandidateError)]
        if failed:
            raise UnsuitableModelError(f"self-test: {golden.name} could not be scored: {failed[0]}")
        scores.append(scores_by_quality(golden, answer))
    share = required_share(scores)
    if share < MIN_ORDERED_SHARE:
        raise UnsuitableModelError(
            f"self-test: a done edit beat an untouched or wrong one in {share:.0%} of the golden pairs; "
            f"a judge needs at least {MIN_ORDERED_SHARE:.0%}"
        )
    return share
