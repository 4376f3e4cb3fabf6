"""Start-up checks: labels are single tokens, golden edits score in the right order and where the judge writes scores.

A short version of `edit-r1 selftest` inside the service, with the default method and a few golden groups.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from edit_r1.reward_service.engines.base import Engine
from edit_r1.reward_service.methods.base import MethodTraits
from edit_r1.reward_service.scoring.scorer import Scorer
from edit_r1.shared.errors import UnsuitableModelError
from edit_r1.shared.golden.edits import (
    MIN_ORDERED_SHARE,
    Golden,
    low_mass,
    mean_mass,
    required_share,
    scores_by_quality,
)
from edit_r1.shared.schemas import DEFAULT_METHOD, CandidateError

_METHODS = (DEFAULT_METHOD, f"{DEFAULT_METHOD}_direct", "score_logit_cot", "score_sampling")
"""Methods for the self-test in order of preference."""


def check_labels(engine: Engine, methods: Mapping[str, MethodTraits]) -> dict[str, dict[str, int]]:
    """The tokens that count for each label of all methods: label -> text -> id.

    Raises:
        UnsuitableModelError: a label is not a single token of this model.

    """
    labels = tuple(dict.fromkeys(label for method in methods.values() for label in method.labels))
    chat = engine.chat
    spelled = zip(labels, chat.label_tokens(labels).spellings, strict=True)
    return {label: dict(zip(chat.pieces(ids), ids, strict=True)) for label, ids in spelled if ids}


async def check_golden(
    scorer: Scorer, offered: Container[str], calibration: Sequence[Golden], min_score_mass: float
) -> dict[str, float]:
    """Score golden edits; returns the share of pairs in the right order and the score mass.

    With the default method, or the next one that the service offers.

    Raises:
        UnsuitableModelError: an edit has no score, the mean score mass is below `min_score_mass`, or a done edit beats
            an untouched or wrong one in less than MIN_ORDERED_SHARE of the pairs.

    """
    answers = []
    method = next(name for name in _METHODS if name in offered)
    for golden in calibration:
        answer = await scorer.score(golden.group.model_copy(update={"method": method}), "self-test")
        failed = [result.error.message for result in answer.results if isinstance(result, CandidateError)]
        if failed:
            raise UnsuitableModelError(f"self-test: {golden.name} could not be scored: {failed[0]}")
        answers.append(answer)
    mass = mean_mass(answers)
    if mass is not None and mass < min_score_mass:
        raise UnsuitableModelError(f"self-test: {low_mass(method, mass, min_score_mass)}")
    share = required_share([scores_by_quality(one, found) for one, found in zip(calibration, answers, strict=True)])
    if share < MIN_ORDERED_SHARE:
        raise UnsuitableModelError(
            f"self-test: a done edit beat an untouched or wrong one in {share:.0%} of the golden pairs; "
            f"a judge needs at least {MIN_ORDERED_SHARE:.0%}"
        )
    return {"ordered_share": share} | ({} if mass is None else {"score_mass": round(mass, 4)})
