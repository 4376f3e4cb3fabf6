"""Background scoring: groups are sent to the reward services while the next ones are generated.

Takes tasks with candidate images and returns their rewards; a candidate whose score failed is missing (None with a
reason), never 0. With several rewards, a group is sent to all of their services at once. While a service is
unreachable, busy or restarting, requests are retried without loss until the deadline. A request that a service rejects
ends the run, because retrying would not help.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from types import TracebackType

from PIL import Image

from edit_r1.shared import images
from edit_r1.shared.client import RewardClient
from edit_r1.shared.errors import RewardRequestRejected, RewardServiceError, RewardServiceUnavailable
from edit_r1.shared.schemas import CandidateError, EditGroup, ScoreResponse
from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.rewards.terms import Term, combined
from edit_r1.trainer.types import EditTask, Rewards

_SHUTDOWN_SECONDS = 5.0
_LOOK_SECONDS, _TELL_SECONDS = 1.0, 30.0

Ticket = Future[Rewards]
"""Handle of a group that is being scored."""


class _Service:
    """The connection to one term's service, and how it is doing."""

    def __init__(self, term: Term, *, timeout_seconds: float, max_in_flight: int) -> None:
        self.term = term
        self.client = RewardClient(
            term.url,
            api_key=term.api_key,
            timeout_seconds=timeout_seconds,
            retry_seconds=None,  # the queue enforces the deadline
            max_in_flight=max_in_flight,
            on_trouble=self._note,
        )
        self.trouble: str | None = None
        """Why the last attempt failed; None when it succeeded."""
        self.num_pending = 0
        """Number of groups that it has yet to score."""

    @property
    def place(self) -> str:
        """Its URLs and the term's name, if it has one."""
        name = self.term.name
        return self.client.url if name is None else f"{self.client.url} ({name})"

    async def score(self, group: EditGroup) -> Rewards:
        """The group's rewards. Raises what the client raises; a rejection names the term and the URL."""
        self.num_pending += 1
        try:
            rewards = _read(await self.client.score(group), len(group.candidates))
        except RewardRequestRejected as error:
            if self.term.name is None:
                raise
            detail = f"{error.problem.detail} (from {self.place})"
            raise RewardRequestRejected(error.problem.model_copy(update={"detail": detail})) from error
        finally:
            self.num_pending -= 1
        self.trouble = None
        return rewards

    def _note(self, trouble: str) -> None:
        self.trouble = trouble


class RewardQueue:
    """A background thread with its own event loop and a RewardClient per term; a context manager."""

    def __init__(
        self,
        terms: Sequence[Term],
        *,
        codec: images.Codec = "raw",
        timeout_seconds: float = 300.0,
        deadline_seconds: float = 1800.0,
        max_in_flight: int = 16,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """terms: at least one reward. deadline_seconds: maximum wait for rewards. max_in_flight: maximum number of
        groups in flight to each term's service. tell: called with progress messages during a long wait.
        """
        self._services = [
            _Service(term, timeout_seconds=timeout_seconds, max_in_flight=max_in_flight) for term in terms
        ]
        self._codec = codec
        self._deadline_seconds, self._tell = deadline_seconds, tell
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rewards", daemon=True)
        self._pending: set[Ticket] = set()

    def __enter__(self) -> RewardQueue:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for request in self._pending:
            request.cancel()
        for service in self._services:
            asyncio.run_coroutine_threadsafe(service.client.close(), self._loop).result(_SHUTDOWN_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SHUTDOWN_SECONDS)
        self._loop.close()

    def submit(
        self,
        task: EditTask,
        sources: Sequence[Image.Image],
        candidates: Sequence[Image.Image],
        seed: int,
        method: str | None = None,
    ) -> Ticket:
        """Submit one group without blocking.

        seed: for sampling methods. method: ask the first term's service for this method instead of all terms' own.
        """
        request = self._score(task, tuple(sources), tuple(candidates), seed, method)
        ticket = asyncio.run_coroutine_threadsafe(request, self._loop)
        self._pending.add(ticket)
        return ticket

    def collect(self, tickets: Sequence[Ticket]) -> list[Rewards]:
        """Wait for these groups' rewards; raises what `looks` raises."""
        for _ in self.looks(tickets):
            pass
        return self.take(tickets)

    def looks(self, tickets: Sequence[Ticket]) -> Iterator[int]:
        """Look once a second until all these groups have rewards; yields the number of those that have none.

        Raises RewardRequestRejected when a request was rejected and RewardServiceUnavailable when a group has no
        rewards after `deadline_seconds`.
        """
        started = told = time.monotonic()
        missing = set(tickets)
        while missing:
            done, missing = wait(missing, timeout=_LOOK_SECONDS, return_when=FIRST_EXCEPTION)
            for ticket in done:
                ticket.result()  # re-raises the group's error
            now = time.monotonic()
            if not missing:
                break
            state = f"{len(missing)} of {len(tickets)} groups have no rewards yet"
            if now - started >= self._deadline_seconds:
                where, trouble = self._delay()
                raise RewardServiceUnavailable(
                    f"gave up on the reward service at {where} after {now - started:.0f} s: {state}; "
                    f"{trouble or 'it responds, but slowly'} (reward.deadline_seconds)"
                )
            where, trouble = self._delay()
            if trouble and (told == started or now - told >= _TELL_SECONDS):
                told = now
                self._tell(
                    f"waiting for the reward service at {where}: {trouble}; {state}; "
                    f"{now - started:.0f} of {self._deadline_seconds:g} s"
                )
            yield len(missing)

    def take(self, tickets: Sequence[Ticket]) -> list[Rewards]:
        """The rewards of groups for which `looks` has waited."""
        self._pending -= set(tickets)
        return [ticket.result() for ticket in tickets]

    def _delay(self) -> tuple[str, str]:
        """Which services are waited for, those in trouble if there are any, and their troubles (empty: none)."""
        failing = [service for service in self._services if service.trouble]
        slow = [service for service in self._services if service.num_pending]
        where = ", ".join(service.place for service in failing or slow or self._services)
        return where, "; ".join(dict.fromkeys(str(service.trouble) for service in failing))

    async def _score(
        self,
        task: EditTask,
        sources: tuple[Image.Image, ...],
        candidates: tuple[Image.Image, ...],
        seed: int,
        method: str | None,
    ) -> Rewards:
        group = await asyncio.to_thread(self._encode, task, sources, candidates, seed)
        if method is not None:
            return await self._services[0].score(group.model_copy(update={"method": method}))
        terms = [service.term for service in self._services]
        requests = [
            asyncio.ensure_future(service.score(group.model_copy(update=_asked(service.term))))
            for service in self._services
        ]
        try:
            return combined(terms, await asyncio.gather(*requests))
        finally:
            for request in requests:  # when one was rejected, nobody waits for the others
                request.cancel()

    def _encode(
        self,
        task: EditTask,
        sources: tuple[Image.Image, ...],
        candidates: tuple[Image.Image, ...],
        seed: int,
    ) -> EditGroup:
        return EditGroup(
            instruction=task.instruction,
            sources=tuple(images.encode(image, self._codec) for image in sources),
            candidates=tuple(images.encode(image, self._codec) for image in candidates),
            task=task.task,
            requirement=task.requirement,
            seed=seed,
        )


def _asked(term: Term) -> dict[str, object]:
    """The fields of a request that differ between terms."""
    return {"method": term.method, "num_passes": term.num_passes, "composite": term.composite}


def collect_together(queue: RewardQueue, tickets: Sequence[Ticket], processes: Processes) -> list[Rewards]:
    """`queue.collect` on all processes: when one fails or is asked to stop, so do all, and none is left waiting."""
    fault: RewardServiceError | None = None

    def looks() -> Iterator[int]:
        nonlocal fault
        try:
            yield from queue.looks(tickets)
        except RewardServiceError as error:
            fault = error

    for _ in processes.in_step(looks(), together=True):
        pass
    faults = processes.gather([str(fault)] if fault else [])
    if fault is not None:
        raise fault
    if faults:
        raise RewardServiceError(f"another process: {faults[0]}")
    return queue.take(tickets)


def _read(scores: ScoreResponse, num_candidates: int) -> Rewards:
    if len(scores.results) != num_candidates:
        raise RewardServiceError(f"requested {num_candidates} scores, the service returned {len(scores.results)}")
    errors = [result for result in scores.results if isinstance(result, CandidateError)]
    return Rewards(
        values=tuple(None if isinstance(result, CandidateError) else result.score for result in scores.results),
        failures=tuple(result.error.message for result in errors),
        parts=tuple(
            {} if isinstance(result, CandidateError) else result.details.get("parts", {}) for result in scores.results
        ),
        masses=tuple(None if isinstance(result, CandidateError) else result.score_mass for result in scores.results),
    )
