"""Rewards in flight: groups go to the reward service in the background while the next ones are generated.

Enters: tasks with candidate images. Leaves: rewards in the order of submission; a candidate whose score failed is
missing (None with a reason), never 0. A request that the service refuses ends the run: asking again would not help.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType

from PIL import Image

from shared import images
from shared.client import RewardClient
from shared.errors import RewardServiceError, RewardServiceUnavailable
from shared.schemas import CandidateError, CompositeRecipe, EditGroup, GroupScores
from trainer.types import EditTask

_SHUTDOWN_SECONDS = 5.0


@dataclass(frozen=True)
class Rewards:
    """What came back for one group."""

    values: tuple[float | None, ...]
    """One a candidate, in [0, 1]; None where missing."""
    failures: tuple[str, ...]
    """One sentence for each missing score."""
    parts: tuple[Mapping[str, float], ...]
    """One a candidate: sub-scores by name, of methods that have them; empty where missing."""


class RewardQueue:
    """A background thread with its own event loop and RewardClient; a context manager."""

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        method: str,
        num_passes: int = 1,
        composite: CompositeRecipe | None = None,
        codec: images.Codec = "raw",
        api_key: str | None = None,
        timeout_seconds: float = 300.0,
        retry_seconds: float = 120.0,
        max_in_flight: int = 16,
    ) -> None:
        self._method, self._num_passes, self._composite = method, num_passes, composite
        self._codec = codec
        self._client = RewardClient(
            url,
            api_key=api_key,
            timeout_seconds=timeout_seconds,
            retry_seconds=retry_seconds,
            max_in_flight=max_in_flight,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rewards", daemon=True)
        self._pending: list[Future[Rewards]] = []

    def __enter__(self) -> RewardQueue:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for request in self._pending:
            request.cancel()
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result(_SHUTDOWN_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SHUTDOWN_SECONDS)
        self._loop.close()

    def submit(
        self, task: EditTask, sources: Sequence[Image.Image], candidates: Sequence[Image.Image], seed: int
    ) -> None:
        """Send one group off; returns at once. `seed` is for sampling methods."""
        request = self._score(task, tuple(sources), tuple(candidates), seed)
        self._pending.append(asyncio.run_coroutine_threadsafe(request, self._loop))

    def collect(self) -> list[Rewards]:
        """Wait for everything submitted since the last call. Raises RewardRequestRejected when one was refused."""
        pending, self._pending = self._pending, []
        return [request.result() for request in pending]

    async def _score(
        self, task: EditTask, sources: tuple[Image.Image, ...], candidates: tuple[Image.Image, ...], seed: int
    ) -> Rewards:
        group = await asyncio.to_thread(self._encode, task, sources, candidates, seed)
        try:
            return _read(await self._client.score(group), len(candidates))
        except RewardServiceUnavailable as error:
            return Rewards((None,) * len(candidates), (str(error),) * len(candidates), ({},) * len(candidates))

    def _encode(
        self, task: EditTask, sources: tuple[Image.Image, ...], candidates: tuple[Image.Image, ...], seed: int
    ) -> EditGroup:
        return EditGroup(
            instruction=task.instruction,
            sources=tuple(images.encode(image, self._codec) for image in sources),
            candidates=tuple(images.encode(image, self._codec) for image in candidates),
            task=task.task,
            requirement=task.requirement,
            method=self._method,
            num_passes=self._num_passes,
            composite=self._composite,
            seed=seed,
        )


def _read(scores: GroupScores, num_candidates: int) -> Rewards:
    if len(scores.results) != num_candidates:
        raise RewardServiceError(f"asked for {num_candidates} scores, the service answered {len(scores.results)}")
    errors = [result for result in scores.results if isinstance(result, CandidateError)]
    return Rewards(
        values=tuple(None if isinstance(result, CandidateError) else result.score for result in scores.results),
        failures=tuple(f"candidate {result.index}: {result.error.message}" for result in errors),
        parts=tuple(
            {} if isinstance(result, CandidateError) else result.details.get("parts", {}) for result in scores.results
        ),
    )
