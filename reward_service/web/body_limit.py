"""The limit on the size of a request's body, enforced while the body arrives."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edit_r1.reward_service.problems import too_large

_LINGER_SECONDS = 0.25


class BodyLimit:
    """ASGI middleware: reading a body over the limit raises 413, before or while the body arrives.

    The connection is then closed so that the client stops sending, after a moment for it to read the response.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self.app = app
        self.limit = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counted body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        # Checked before the first byte is read: a client that waits for `100 Continue` then never sends the body.
        count = int(announced) if announced.isdecimal() else 0

        async def counted() -> Message:
            nonlocal count
            if count > self.limit:
                raise too_large("body", f"{count:,} bytes or more", f"{self.limit:,} (max_body_bytes)")
            message = await receive()
            if not announced:
                count += len(message.get("body", b""))
            return message

        async def closing(message: Message) -> None:
            if count <= self.limit:
                await send(message)
            elif message["type"] == "http.response.start":
                await send({**message, "headers": [*message["headers"], (b"connection", b"close")]})
            else:
                await send({**message, "more_body": True})
                await _discard(receive, _LINGER_SECONDS)
                await send({"type": "http.response.body"})

        await self.app(scope, counted, closing)


async def _discard(receive: Receive, limit_seconds: float) -> None:
    """Read and discard the rest of the body: closing with unread bytes could cut off the response."""
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_seconds):
            while (await receive()).get("more_body"):
                pass
