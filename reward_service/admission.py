"""Admission control: limits the number of candidates in the service, and rejects new work while draining."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from edit_r1.reward_service.problems import ProblemError


class Admission:
    """Counts candidates being scored. Used from the event loop only."""

    def __init__(self, max_candidates: int) -> None:
        self._max_candidates = max_candidates
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.num_candidates = 0

    def check_open(self) -> None:
        """Raise ProblemError 503 if the service is draining."""
        if self._draining:
            raise ProblemError(503, "draining", "the service is shutting down")

    def check(self) -> None:
        """Reject early, before the body is read, what would be rejected anyway.

        Raises:
            ProblemError: 503 draining, 429 full.

        """
        self._check(0)

    @contextmanager
    def entered(self, num_candidates: int) -> Iterator[None]:
        """Reserve places for the candidates of one request. Raises like `check`."""
        self._check(num_candidates)
        self.num_candidates += num_candidates
        self._idle.clear()
        try:
            yield
        finally:
            self.num_candidates -= num_candidates
            if self.num_candidates == 0:
                self._idle.set()

    async def drain(self, limit_seconds: float) -> None:
        """Reject new work from now on; return once all running work is done or the time limit is reached."""
        self._draining = True
        try:
            await asyncio.wait_for(self._idle.wait(), limit_seconds)
        except TimeoutError:
            return

    @property
    def draining(self) -> bool:
        """Whether the service no longer accepts work."""
        return self._draining

    def _check(self, more: int) -> None:
        self.check_open()
        # A group larger than the bound is admitted when the service is idle; its own limit is max_candidates.
        full = self.num_candidates >= self._max_candidates
        if full or (self.num_candidates and self.num_candidates + more > self._max_candidates):
            detail = f"{self.num_candidates} candidates are waiting; the limit is {self._max_candidates}"
            raise ProblemError(429, "queue_full", detail)
