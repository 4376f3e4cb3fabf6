"""Handles a request that scores several groups, for every protocol.

Takes a function that reads the groups and returns the results in order; handles limits, admission, deadline and
counters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from fastapi import Request

from edit_r1.reward_service.problems import ProblemError
from edit_r1.reward_service.scoring.scorer import Scorer
from edit_r1.reward_service.service import Service
from edit_r1.reward_service.web.batch_body import GroupOrProblem
from edit_r1.reward_service.web.deadlines import deadline, while_connected
from edit_r1.shared.schemas import EditGroup, Limits, Problem, ScoreResponse

ReadGroups = Callable[[Request, Limits], Awaitable[Sequence[GroupOrProblem]]]


async def score_groups(request: Request, service: Service, read: ReadGroups) -> list[ScoreResponse | Problem]:
    """Score the groups that `read` finds in the request; a group that cannot be scored yields a problem in its place.

    Raises:
        ProblemError: the request as a whole is rejected.

    """
    scorer = service.scorer
    service.admission.check()
    request_id = request.state.request_id
    async with deadline(service.settings.request_seconds):
        with service.metrics.timed("receive"):
            groups = await read(request, service.settings.limits)
        num_candidates = sum(len(group.candidates) for group in groups if isinstance(group, EditGroup))
        async with while_connected(request):
            with service.admission.entered(num_candidates):
                answers = await asyncio.gather(
                    *(_score_or_problem(scorer, group, f"{request_id}.{i}") for i, group in enumerate(groups))
                )
    for answer in answers:
        if isinstance(answer, ScoreResponse):
            service.observe(answer)
    return answers


async def _score_or_problem(scorer: Scorer, group: GroupOrProblem, request_id: str) -> ScoreResponse | Problem:
    if isinstance(group, ProblemError):
        return group.problem
    try:
        return await scorer.score(group, request_id)
    except ProblemError as error:
        return error.problem
