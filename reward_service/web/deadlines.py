"""Limits how long a request runs: until its deadline, and only while its client is connected.

In both cases the request's scoring is cancelled, down to the engine, and its places in the queue are freed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from edit_r1.reward_service.problems import ProblemError


@asynccontextmanager
async def deadline(limit_seconds: float) -> AsyncIterator[None]:
    """Cancel the block if it takes longer. Raises ProblemError 503."""
    try:
        async with asyncio.timeout(limit_seconds):
            yield
    except TimeoutError as error:
        detail = f"not scored within {limit_seconds:g} s (request_seconds)"
        raise ProblemError(503, "deadline_exceeded", detail) from error


@asynccontextmanager
async def while_connected(request: Request) -> AsyncIterator[None]:
    """Cancel the block if the client disconnects; enter it after the request's body has been read.

    Raises:
        ProblemError: the client disconnected; only for counting and logging.

    """
    watcher: asyncio.Task[None] | None = None
    try:
        # A timeout that never fires until the watcher reschedules it; asyncio then cancels as for any other timeout.
        async with asyncio.timeout(None) as scope:
            watcher = asyncio.create_task(_watch(request, scope))
            yield
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise ProblemError(400, "client_gone", "the client closed the connection before the response") from error
    finally:
        if watcher is not None:
            watcher.cancel()


async def _watch(request: Request, scope: asyncio.Timeout) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.reschedule(asyncio.get_running_loop().time())
