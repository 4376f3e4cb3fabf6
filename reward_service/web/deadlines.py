"""How long a request is worked on: until its deadline, and only while its client is still there.

Both end the same way: what is being scored for the request is cancelled, down to the engine, and its places are freed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from edit_r1.reward_service.problems import ProblemError


@asynccontextmanager
async def deadline(limit_seconds: float) -> AsyncIterator[None]:
    """Cancel what takes longer. Raises ProblemError 503."""
    try:
        async with asyncio.timeout(limit_seconds):
            yield
    except TimeoutError as error:
        detail = f"not scored within {limit_seconds:g} s (request_seconds)"
        raise ProblemError(503, "deadline_exceeded", detail) from error


@asynccontextmanager
async def while_connected(request: Request) -> AsyncIterator[None]:
    """Cancel what nobody waits for any more; enter when the request's body has been read.

    Raises:
        ProblemError: the client went away. It is counted and logged; nobody reads it.

    """
    watcher: asyncio.Task[None] | None = None
    try:
        # A timeout that is never due, until the watcher says it is: asyncio then cancels as for any other.
        async with asyncio.timeout(None) as scope:
            watcher = asyncio.create_task(_watch(request, scope))
            yield
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise ProblemError(400, "client_gone", "the client closed the connection before its answer") from error
    finally:
        if watcher is not None:
            watcher.cancel()


async def _watch(request: Request, scope: asyncio.Timeout) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.reschedule(asyncio.get_running_loop().time())
