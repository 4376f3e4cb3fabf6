"""A multimodal model behind an OpenAI-compatible chat endpoint, for commands that ask it about many pictures.

Enters: the parts of a user's message, texts and pictures. Leaves: a `Reply`, or an error that says whom it concerns:

    ConfigError          the endpoint answers, but not to us or not for this model: the command is wrong
    EndpointUnavailable  nobody there, or too busy, for as long as passing trouble is tried again
    EndpointRefused      the server will not take this question; another one it may
    EndpointFailed       the server broke down over this question, also when it was asked again
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

from edit_r1.shared import http_failures as trouble
from edit_r1.shared.errors import ConfigError, EndpointFailed, EndpointRefused, EndpointUnavailable
from edit_r1.shared.images import data_url

_BUSY = trouble.TRANSIENT_STATUSES | {408, 425}
_WRONG_ADDRESS = frozenset({401, 403, 404, 405})
_WRONG_KEY = frozenset({401, 403})
_MAX_FAILURES = 4
_CONNECT_SECONDS = 10.0
_SHOWN = 300
Part = Mapping[str, Any]
"""Of a message: see `text_part` and `picture_part`."""


@dataclass(frozen=True)
class Endpoint:
    """A model that someone serves, and how it is asked."""

    url: str
    """Root of the API, such as http://gpu-1:8000/v1."""
    model: str
    """Its name there."""
    api_key: str | None = field(repr=False)
    """Sent as `Authorization: Bearer`; None: it needs none."""
    max_in_flight: int
    """Questions on the wire at once."""
    max_tokens: int
    """Of an answer."""
    retry_seconds: float
    """How long passing trouble is tried again."""
    timeout_seconds: float = 300.0
    """Of one try."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"url must be the root of an API such as http://gpu-1:8000/v1, found {self.url!r}")


@dataclass(frozen=True)
class Reply:
    """What a model answered."""

    text: str
    """Empty when it declined."""
    declined: str | None
    """Why there is no text; None when there is one."""
    model: str
    """Who answered, as the server says; empty when it does not."""


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
    """The server asked to be tried again."""

    def __init__(self, message: str, retry_after_seconds: float | None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ChatClient:
    """A connection to an endpoint; an async context manager."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._url = endpoint.url.rstrip("/").removesuffix("/chat/completions")
        self._slots = asyncio.Semaphore(endpoint.max_in_flight)
        headers = {"Authorization": f"Bearer {endpoint.api_key}"} if endpoint.api_key else {}
        limits = httpx.Limits(max_connections=endpoint.max_in_flight, max_keepalive_connections=endpoint.max_in_flight)
        timeout = httpx.Timeout(endpoint.timeout_seconds, connect=min(_CONNECT_SECONDS, endpoint.timeout_seconds))
        self._http = httpx.AsyncClient(headers=headers, limits=limits, timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def check(self) -> None:
        """Find the endpoint, below its URL or URL/v1, and the model there. Raises ConfigError."""
        for url in (self._url, f"{self._url}/v1"):
            try:
                answer = await self._http.get(f"{url}/models")
            except (httpx.TransportError, httpx.InvalidURL) as error:
                raise ConfigError(
                    f"no chat endpoint at {self._url}: {trouble.reason(error)}; "
                    f"the root of an API is expected, such as http://gpu-1:8000/v1"
                ) from error
            if answer.status_code in _WRONG_KEY:
                raise ConfigError(f"the chat endpoint at {self._url} refuses the key: {_status(answer)}")
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
            parts: makes the message; called in a thread and only when it is its turn, since it holds pictures.

        Raises:
            ConfigError: the endpoint does not know our key, the model, or this address.
            EndpointUnavailable: it stayed away or busy for `retry_seconds`.
            EndpointRefused: it will not take this question.
            EndpointFailed: it broke down over this question, each time that it was asked.
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
        """The answer, tried again on passing trouble."""
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
                f"{url} gave no answer in {time.monotonic() - started:.1f} s: {trouble.reason(error)}; "
                f"what is done is kept, the same command goes on from there"
            ) from error
        raise AssertionError("unreachable: retry_context ends by return or raise")


def text_part(text: str) -> Part:
    """A text in a message."""
    return {"type": "text", "text": text}


def picture_part(data: bytes) -> Part:
    """An encoded picture in a message."""
    return {"type": "image_url", "image_url": {"url": data_url(data)}}


class _Patience:
    """Stamina's hook for one question: busy and lost connections are always tried again, failures a few times."""

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
    """The answer in a chat completion; else the error that says what to do about it."""
    told = f"{answer.url} answered {_status(answer)}"
    if answer.status_code in _BUSY:
        raise _BusyError(_status(answer), trouble.retry_after(answer))
    if answer.status_code in _WRONG_ADDRESS:
        raise ConfigError(told)
    if answer.is_client_error:
        raise EndpointRefused(told)
    if not answer.is_success:
        raise EndpointFailed(told)
    try:
        completion = _Completion.model_validate_json(answer.content)
    except ValidationError as error:
        raise EndpointFailed(f"{answer.url} answered with no chat completion: {_detail(answer)!r}") from error
    message, finished = completion.choices[0].message, completion.choices[0].finish_reason
    text = message.content
    declined = message.refusal or (None if text is not None else finished or "an empty answer")
    return Reply("" if declined else text or "", declined, completion.model or "")


def _status(answer: httpx.Response) -> str:
    return f"{answer.status_code}: {_detail(answer)}"


def _detail(answer: httpx.Response) -> str:
    """What a server says about its refusal, shortly."""
    try:
        body: Any = answer.json()
    except ValueError:
        return answer.text[:_SHOWN] or answer.reason_phrase
    error = body["error"] if isinstance(body, Mapping) and "error" in body else body
    return str(error["message"] if isinstance(error, Mapping) and "message" in error else error)[:_SHOWN]


def _served(answer: httpx.Response) -> list[str]:
    """Names of the models; empty where an endpoint does not list them."""
    if not answer.is_success:
        return []
    try:
        return [str(one["id"]) for one in answer.json()["data"]]
    except (ValueError, LookupError, TypeError):
        return []
