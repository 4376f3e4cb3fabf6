"""Client of a multimodal model behind an OpenAI-compatible chat endpoint, for commands that ask about many images.

Takes the parts of a user message, texts and images, and returns a `Reply` or raises an error:

    AccountError         the endpoint refuses the key, or the account has no credit or quota
    ConfigError          the endpoint responds, but rejects the model or the address: fix the command
    EndpointUnavailable  unreachable or busy for the whole retry time
    EndpointRefused      the server rejects this request; others may succeed
    EndpointFailed       the server fails on this request, even when retried
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from edit_r1.shared.chat.completions import Completion, Usage
from edit_r1.shared.chat.exchange import ChatExchange
from edit_r1.shared.chat.failures import failure_of
from edit_r1.shared.connections import http_failures
from edit_r1.shared.connections.http_clients import async_client
from edit_r1.shared.errors import AccountError, ConfigError, EndpointUnavailable
from edit_r1.shared.images import data_url

_CONNECT_SECONDS = 10.0
_PAYMENT_REQUIRED = 402
Part = Mapping[str, Any]
"""Part of a message: see `text_part` and `picture_part`."""


@dataclass(frozen=True)
class Endpoint:
    """A served model and how to call it."""

    url: str
    """Base URL of the API, such as http://gpu-1:8000/v1."""
    model: str
    """Name of the model at this endpoint."""
    api_key: str | None = field(repr=False)
    """Sent as `Authorization: Bearer`; None when no key is needed."""
    max_in_flight: int
    """Maximum number of concurrent requests."""
    max_tokens: int
    """Maximum length of an answer."""
    retry_seconds: float
    """Time during which transient errors are retried."""
    timeout_seconds: float = 300.0
    """Timeout of a single attempt."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"url must be an API base URL such as http://gpu-1:8000/v1, got {self.url!r}")


@dataclass(frozen=True)
class Reply:
    """A model's answer."""

    text: str
    """Empty when the model declined, or was cut off before its answer."""
    declined: str | None
    """Why there is no text; None when there is one, or when it was cut off."""
    model: str
    """Model name reported by the server; empty when it reports none."""
    cut: bool = False
    """Whether the answer was cut off at `max_tokens`, thinking included."""
    usage: Usage | None = None
    """Tokens by the server's count; None when it reports none."""


class ChatClient:
    """A connection to an endpoint; an async context manager.

    Attributes:
        used: tokens of all answers so far, by the server's count.

    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._url = endpoint.url.rstrip("/").removesuffix("/chat/completions")
        self._slots = asyncio.Semaphore(endpoint.max_in_flight)
        limits = httpx.Limits(max_connections=endpoint.max_in_flight, max_keepalive_connections=endpoint.max_in_flight)
        timeout = httpx.Timeout(endpoint.timeout_seconds, connect=min(_CONNECT_SECONDS, endpoint.timeout_seconds))
        self._http = async_client(api_key=endpoint.api_key, timeout=timeout, limits=limits)
        self._exchange = ChatExchange(self._http, endpoint.retry_seconds)
        self.used = Usage()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def check(self) -> None:
        """Locate the endpoint at its URL or URL/v1 and check that it serves the model. Raises ConfigError."""
        for url in (self._url, f"{self._url}/v1"):
            try:
                answer = await self._http.get(f"{url}/models")
            except (httpx.TransportError, httpx.InvalidURL) as error:
                raise ConfigError(
                    f"no chat endpoint at {self._url}: {http_failures.reason(error)}; "
                    f"expected an API base URL such as http://gpu-1:8000/v1"
                ) from error
            failure = failure_of(answer)
            if failure is not None and failure.kind == "account":
                thing = "account" if answer.status_code == _PAYMENT_REQUIRED else "key"
                raise AccountError(f"the chat endpoint at {self._url} rejects the {thing}: {failure.message}")
            if answer.is_success:
                self._url = url
                break
        served = _served(answer)
        if served and self.endpoint.model not in served:
            raise ConfigError(
                f"the chat endpoint at {self._url} serves {', '.join(served[:10])}, not {self.endpoint.model!r}"
            )

    async def ask(self, parts: Callable[[], Sequence[Part]]) -> Reply:
        """The model's answer to one message.

        Args:
            parts: creates the message; called in a thread, and only once a slot is free, since images use memory.

        Raises:
            AccountError: the endpoint refuses the account: key, credit or quota.
            ConfigError: it rejects the model or the address.
            EndpointUnavailable: it was unreachable or busy for `retry_seconds`.
            EndpointRefused: it rejects this request.
            EndpointFailed: it failed on this request at every attempt.
            Exception: whatever `parts` raises.

        """
        async with self._slots:
            completion = await self._complete(
                {
                    "model": self.endpoint.model,
                    "messages": [{"role": "user", "content": await asyncio.to_thread(parts)}],
                    "temperature": 0,
                    "max_tokens": self.endpoint.max_tokens,
                }
            )
        return Reply(completion.text, completion.declined, completion.model, completion.cut, completion.usage)

    async def _complete(self, fields: Mapping[str, Any]) -> Completion:
        try:
            completion = await self._exchange.complete(self._url, fields)
        except EndpointUnavailable as error:
            raise EndpointUnavailable(f"{error}; finished work is kept; rerun the same command to resume") from error
        self.used = self.used.plus(completion.usage or Usage())
        return completion


def text_part(text: str) -> Part:
    """A text in a message."""
    return {"type": "text", "text": text}


def picture_part(data: bytes) -> Part:
    """An encoded image in a message."""
    return {"type": "image_url", "image_url": {"url": data_url(data)}}


def _served(answer: httpx.Response) -> list[str]:
    """Names of the served models; empty when the endpoint does not list them."""
    if not answer.is_success:
        return []
    try:
        return [str(one["id"]) for one in answer.json()["data"]]
    except (ValueError, LookupError, TypeError):
        return []
