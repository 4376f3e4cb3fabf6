"""Runs measures off the event loop: each in a thread of its own, on all of a group's readable candidates at once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import structlog

from edit_r1.reward_service.methods.base import Method
from edit_r1.reward_service.types import Edit, Score
from edit_r1.shared.errors import ImageError, JudgeError, MeasureError

log = structlog.get_logger(__name__)

_ROUNDING = 1e-6
Measured = Mapping[str, Score | MeasureError]
"""The measures' results for one candidate, by method."""
EditOrError = Edit | ImageError | JudgeError
"""A candidate with all that its method reads, or the reason it cannot be scored."""


class Measuring:
    """The threads of a service's measures."""

    def __init__(self, methods: Iterable[Method]) -> None:
        # One thread each: a measure need not be thread-safe, and a slow one does not hold up the others.
        self._threads = {
            method.name: ThreadPoolExecutor(1, thread_name_prefix=method.name)
            for method in methods
            if method.measure is not None
        }

    def close(self) -> None:
        """Shut down the threads after their current calls."""
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)

    async def measured(self, method: Method, edits: Sequence[EditOrError]) -> list[EditOrError]:
        """The edits with the results that this method reads; a measure's error takes the edit's place.

        Measuring comes before asking, so that the judge is not asked about an edit that gets no score.
        """
        results = iter(await self._of(method, [edit for edit in edits if isinstance(edit, Edit)]))
        return [_with(edit, next(results)) if isinstance(edit, Edit) else edit for edit in edits]

    async def _of(self, method: Method, edits: Sequence[Edit]) -> list[Measured]:
        """For each edit, the results of all measures that this method reads."""
        measures = method.measures
        if not measures or not edits:
            return [{} for _ in edits]
        loop = asyncio.get_running_loop()
        columns = await asyncio.gather(
            *(loop.run_in_executor(self._threads[one.name], _results, one, edits) for one in measures)
        )
        names = [one.name for one in measures]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _with(edit: Edit, results: Measured) -> EditOrError:
    failed = [found for found in results.values() if isinstance(found, MeasureError)]
    return failed[0] if failed else replace(edit, measured=results)


def _results(method: Method, edits: Sequence[Edit]) -> list[Score | MeasureError]:
    """One measure's results, checked; its failure is every edit's error."""
    measure = method.measure
    assert measure is not None  # noqa: S101 - chosen by the caller
    try:
        found = list(measure.score(edits))
    except MeasureError as error:
        return [error] * len(edits)
    except Exception as error:
        # Measures may be third-party code on third-party images: whatever one raises is the candidate's error.
        log.error("measure failed", method=method.name, exc_info=error)
        return [MeasureError(f"{method.name}: {type(error).__name__}: {error}")] * len(edits)
    if len(found) != len(edits):
        return [MeasureError(f"{method.name}: {len(found)} scores for {len(edits)} edits")] * len(edits)
    return [_checked(method, one) for one in found]


def _checked(method: Method, found: Score | MeasureError) -> Score | MeasureError:
    """The result, or an error if it is no score in the measure's range."""
    if isinstance(found, MeasureError):
        return found
    low, high, slack = method.raw_score_min, method.raw_score_max, _ROUNDING
    if not isinstance(found, Score) or not math.isfinite(found.raw_score):
        return MeasureError(f"{method.name}: {found!r} is no score")
    if not low - slack <= found.raw_score <= high + slack:
        return MeasureError(f"{method.name}: raw score {found.raw_score:g} is outside {low:g} to {high:g}")
    strange = [name for name, value in found.parts.items() if name not in method.parts or not 0 <= value <= 1]
    return MeasureError(f"{method.name}: part {strange[0]!r} is unknown or outside 0 to 1") if strange else found
