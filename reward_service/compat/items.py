"""Flat lists of edits, as other trainers send them -> our groups -> one outcome per edit, in request order.

Edits with the same source and options become one group, so that they share its work.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar

from fastapi import Request
from pydantic import ValidationError

from edit_r1.reward_service.problems import ProblemError, too_large, validation_problem
from edit_r1.reward_service.service import Service
from edit_r1.reward_service.web.batch_body import GroupOrProblem, group_or_problem
from edit_r1.reward_service.web.group_body import read_json, require_json
from edit_r1.reward_service.web.group_scoring import score_groups
from edit_r1.shared.schemas import CandidateError, CandidateResult, CandidateScore, EditGroup, Limits, Problem


@dataclass(frozen=True)
class Item:
    """One edit to score."""

    sources: tuple[bytes, ...] = field(repr=False)
    candidate: bytes = field(repr=False)
    options: Mapping[str, Any]
    """Options by their names in `ScoreOptions`."""


Outcome = CandidateScore | str
"""A score, or why there is none."""


class Asking(Protocol):
    """Part of a request in another protocol."""

    def items(self) -> Sequence[Item]:
        """The edits to score."""
        ...


_Asking = TypeVar("_Asking", bound=Asking)


async def score_items(
    request: Request, service: Service, read: Callable[[Any], Sequence[_Asking]]
) -> tuple[Sequence[_Asking], list[list[Outcome]]]:
    """Score what `read` finds in the request's JSON; returns these parts, and the outcomes of each part's items.

    Raises:
        ProblemError: the request as a whole is rejected, or the engine died.

    """
    asked: list[_Asking] = []
    counts: list[int] = []
    places: list[list[int]] = []

    async def read_groups(request: Request, limits: Limits) -> list[GroupOrProblem]:
        require_json(request)
        body = await read_json(request)
        try:
            asked.extend(await asyncio.to_thread(read, body))  # megabytes of base64 take a while
        except ValidationError as error:
            raise validation_problem(error.errors()) from error
        items_of = [one.items() for one in asked]
        counts.extend(map(len, items_of))
        items = [item for those in items_of for item in those]
        places.extend(_places(items, limits.max_candidates))
        if len(places) > limits.max_groups:
            raise too_large("distinct sources and texts", f"{len(places):,}", f"{limits.max_groups} (max_groups)")
        return [group_or_problem(partial(_group, [items[i] for i in indices]), limits) for indices in places]

    answers = await score_groups(request, service, read_groups)
    outcomes: dict[int, Outcome] = {}
    for indices, answer in zip(places, answers, strict=True):
        if isinstance(answer, Problem):
            if answer.status >= 500:
                raise ProblemError(answer.status, answer.code, answer.detail)
            outcomes.update(dict.fromkeys(indices, f"{answer.code}: {answer.detail}"))
        else:
            outcomes.update(zip(indices, map(_outcome, answer.results), strict=True))
    in_order = iter(outcomes[index] for index in range(len(outcomes)))
    return asked, [list(islice(in_order, count)) for count in counts]


def sub_scores(score: CandidateScore) -> dict[str, float]:
    """The score in [0, 1], followed by the method's parts."""
    return {"score": score.score, **score.details.get("parts", {})}


def _outcome(result: CandidateResult) -> Outcome:
    if isinstance(result, CandidateError):
        return f"{result.error.code}: {result.error.message.partition(': ')[2]}"  # drop the index within the group
    return result


def _places(items: Sequence[Item], max_candidates: int) -> list[list[int]]:
    """Indices of the items of each group, in order of arrival."""
    groups: dict[tuple[Any, ...], list[list[int]]] = {}
    for index, item in enumerate(items):
        alike = groups.setdefault((item.sources, json.dumps(item.options, sort_keys=True)), [[]])
        if len(alike[-1]) == max_candidates:
            alike.append([])
        alike[-1].append(index)
    return [indices for alike in groups.values() for indices in alike]


def _group(items: Sequence[Item]) -> EditGroup:
    first = items[0]
    candidates = [item.candidate for item in items]
    return EditGroup.model_validate({**first.options, "sources": first.sources, "candidates": candidates})
