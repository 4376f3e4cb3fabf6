"""Who may come in: a bound on candidates in the house, and a door that closes for draining."""

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
        """Raise ProblemError 503 when the door is closed for good."""
        if self._draining:
            raise ProblemError(503, "draining", "the service is shutting down")

    def check(self) -> None:
        """Refuse before a body is read what would be refused afterwards anyway.

        Raises:
            ProblemError: 503 draining, 429 full.

        """
        self._check(0)

    @contextmanager
    def entered(self, num_candidates: int) -> Iterator[None]:
        """Hold places for the candidates of one request. Raises like `check`."""
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
        """Let nobody in from now on; return when the house is empty or the limit is over."""
        self._draining = True
        try:
            await asyncio.wait_for(self._idle.wait(), limit_seconds)
        except TimeoutError:
            return

    @property
    def draining(self) -> bool:
        """Whether the door is closed for good."""
        return self._draining

    def _check(self, more: int) -> None:
        self.check_open()
        # One group larger than the bound is let into an empty house: its own limit is max_candidates.
        full = self.num_candidates >= self._max_candidates
        if full or (self.num_candidates and self.num_candidates + more > self._max_candidates):
            detail = f"{self.num_candidates} candidates are waiting; the limit is {self._max_candidates}"
            raise ProblemError(429, "queue_full", detail)
