"""Client of a multimodal model behind an OpenAI-compatible chat endpoint, for commands that ask about many images.

Takes the parts of a user message, texts and images, and returns a `Reply` or raises an error:

    ConfigError          the endpoint responds, but rejects the key, the model or the address: fix the command
    EndpointUnavailable  unreachable or busy for the whole retry time
    EndpointRefused      the server rejects this request; others may succeed
    EndpointFailed       the server fails on this request, even when retried
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx
import stamina
from pydantic import BaseModel, Field, ValidationError

from edit_r1.shared import http_failures
from edit_r1.shared.connections.http_clients import async_client
from edit_r1.shared.errors import ConfigError, EndpointFailed, EndpointRefused, EndpointUnavailable
from edit_r1.shared.images import data_url

_BUSY = http_failures.TRANSIENT_STATUSES | {408, 425}
_WRONG_ADDRESS = frozenset({401, 403, 404, 405})
_WRONG_KEY = frozenset({401, 403})
_MAX_FAILURES = 4
_CONNECT_SECONDS = 10.0
_SHOWN = 300
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
    """Empty when the model declined."""
    declined: str | None
    """Why there is no text; None when there is one."""
    model: str
    """Model name reported by the server; empty when it reports none."""


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    model: str | None = None


class _BusyError(Exception):
    """The server asked the client to retry."""

    def __init__(self, message: str, retry_after_seconds: float | None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ChatClient:
    """A connection to an endpoint; an async context manager."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._url = endpoint.url.rstrip("/").removesuffix("/chat/completions")
        self._slots = asyncio.Semaphore(endpoint.max_in_flight)
        limits = httpx.Limits(max_connections=endpoint.max_in_flight, max_keepalive_connections=endpoint.max_in_flight)
        timeout = httpx.Timeout(endpoint.timeout_seconds, connect=min(_CONNECT_SECONDS, endpoint.timeout_seconds))
        self._http = async_client(api_key=endpoint.api_key, timeout=timeout, limits=limits)

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
            if answer.status_code in _WRONG_KEY:
                raise ConfigError(f"the chat endpoint at {self._url} rejects the key: {_status(answer)}")
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
            ConfigError: the endpoint rejects the key, the model or the address.
            EndpointUnavailable: it was unreachable or busy for `retry_seconds`.
            EndpointRefused: it rejects this request.
            EndpointFailed: it failed on this request at every attempt.
            Exception: whatever `parts` raises.

        """
        async with self._slots:
            body = {
                "model": self.endpoint.model,
                "messages": [{"role": "user", "content": await asyncio.to_thread(parts)}],
                "temperature": 0,
                "max_tokens": self.endpoint.max_tokens,
            }
            return await self._exchange(body)

    async def _exchange(self, body: Mapping[str, Any]) -> Reply:
        """Post the request, retrying transient errors."""
        started = time.monotonic()
        url = f"{self._url}/chat/completions"
        try:
            async for attempt in stamina.retry_context(
                on=_Patience(), attempts=None, timeout=self.endpoint.retry_seconds, wait_initial=0.2, wait_max=10.0
            ):
                with attempt:
                    return _read(await self._http.post(url, json=body))
        except (httpx.TransportError, _BusyError) as error:
            raise EndpointUnavailable(
                f"{url} gave no answer in {time.monotonic() - started:.1f} s: {http_failures.reason(error)}; "
                f"finished work is kept; rerun the same command to resume"
            ) from error
        raise AssertionError("unreachable: retry_context ends by return or raise")


def text_part(text: str) -> Part:
    """A text in a message."""
    return {"type": "text", "text": text}


def picture_part(data: bytes) -> Part:
    """An encoded image in a message."""
    return {"type": "image_url", "image_url": {"url": data_url(data)}}


class _Patience:
    """Stamina's hook for one request: busy servers and lost connections are always retried, failures a few times."""

    def __init__(self) -> None:
        self._num_failures = 0

    def __call__(self, error: Exception) -> bool | float:
        if isinstance(error, _BusyError) and error.retry_after_seconds is not None:
            return error.retry_after_seconds
        if isinstance(error, EndpointFailed):
            self._num_failures += 1
            return self._num_failures < _MAX_FAILURES
        return isinstance(error, httpx.TransportError | _BusyError)


def _read(answer: httpx.Response) -> Reply:
    """Parse the answer of a chat completion, or raise the matching error."""
    told = f"{answer.url} answered {_status(answer)}"
    if answer.status_code in _BUSY:
        raise _BusyError(_status(answer), http_failures.retry_after(answer))
    if answer.status_code in _WRONG_ADDRESS:
        raise ConfigError(told)
    if answer.is_client_error:
        raise EndpointRefused(told)
    if not answer.is_success:
        raise EndpointFailed(told)
    try:
        completion = _Completion.model_validate_json(answer.content)
    except ValidationError as error:
        raise EndpointFailed(f"{answer.url} did not return a chat completion: {_detail(answer)!r}") from error
    message, finished = completion.choices[0].message, completion.choices[0].finish_reason
    text = message.content
    declined = message.refusal or (None if text is not None else finished or "an empty answer")
    return Reply("" if declined else text or "", declined, completion.model or "")


def _status(answer: httpx.Response) -> str:
    return f"{answer.status_code}: {_detail(answer)}"


def _detail(answer: httpx.Response) -> str:
    """The server's error message, shortened."""
    try:
        body: Any = answer.json()
    except ValueError:
        return answer.text[:_SHOWN] or answer.reason_phrase
    error = body["error"] if isinstance(body, Mapping) and "error" in body else body
    return str(error["message"] if isinstance(error, Mapping) and "message" in error else error)[:_SHOWN]


def _served(answer: httpx.Response) -> list[str]:
    """Names of the served models; empty when the endpoint does not list them."""
    if not answer.is_success:
        return []
    try:
        return [str(one["id"]) for one in answer.json()["data"]]
    except (ValueError, LookupError, TypeError):
        return []
