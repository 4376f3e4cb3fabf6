"""Exchanges with an OpenAI-style chat endpoint: posts a request, adapts its parameters, retries, classifies failures.

Takes the fields of a request and returns a `Completion`, or raises

    AccountError         the endpoint refuses the account: no request can succeed
    ConfigError          the address or the model does not exist
    EndpointUnavailable  unreachable or busy for the whole retry time
    EndpointRefused      the server rejects this request; others may succeed
    EndpointFailed       the server fails on this request, even when retried
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import stamina

from edit_r1.shared.chat.completions import Completion, read_completion
from edit_r1.shared.chat.failures import Failure, failure_of
from edit_r1.shared.chat.parameters import ChatParameters
from edit_r1.shared.connections import http_failures
from edit_r1.shared.errors import AccountError, ConfigError, EndpointFailed, EndpointRefused, EndpointUnavailable

_MAX_FAILURES = 4
_SHOWN = 300


class _BusyError(Exception):
    """The server asked the client to retry."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.retry_after_seconds = failure.retry_after_seconds


@dataclass(frozen=True)
class ChatExchange:
    """How to reach one endpoint."""

    http: httpx.AsyncClient
    retry_seconds: float
    """Time during which transient errors are retried."""
    parameters: ChatParameters = field(default_factory=ChatParameters)

    async def complete(self, root: str, fields: Mapping[str, Any]) -> Completion:
        """The answer to one request; root: base URL of the API. Raises as the module says."""
        started, limit = time.monotonic(), self.retry_seconds
        url = f"{root}/chat/completions"
        try:
            async for attempt in stamina.retry_context(
                on=_Patience(limit), attempts=None, timeout=limit, wait_initial=0.2, wait_max=10.0
            ):
                with attempt:
                    return await self._post(url, fields)
        except (httpx.TransportError, _BusyError) as error:
            waited = time.monotonic() - started
            raise EndpointUnavailable(
                f"{url} gave no answer in {waited:.1f} s: {http_failures.reason(error)}"
            ) from error
        raise AssertionError("unreachable: retry_context ends by return or raise")

    async def _post(self, url: str, fields: Mapping[str, Any]) -> Completion:
        """Post until the parameters are accepted; every refusal teaches one of a few parameters, so this ends."""
        while True:
            body = self.parameters.adapted(fields)
            answer = await self.http.post(url, json=body)
            failure = failure_of(answer)
            if failure is None:
                return _read(answer)
            if not self.parameters.learn(body, failure):
                raise _error(url, failure)


class _Patience:
    """Stamina's hook for one request: busy servers and lost connections are retried, failures a few times.

    A server that asks for more patience than there is gets none: sleeping would only delay the error.
    """

    def __init__(self, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._num_failures = 0

    def __call__(self, error: Exception) -> bool | float:
        if isinstance(error, _BusyError) and error.retry_after_seconds is not None:
            return error.retry_after_seconds <= self._limit_seconds and error.retry_after_seconds
        if isinstance(error, EndpointFailed):
            self._num_failures += 1
            return self._num_failures < _MAX_FAILURES
        return isinstance(error, httpx.TransportError | _BusyError)


def _read(answer: httpx.Response) -> Completion:
    try:
        return read_completion(answer.content)
    except ValueError as error:
        raise EndpointFailed(f"{answer.url} did not return a chat completion: {answer.text[:_SHOWN]!r}") from error


def _error(url: str, failure: Failure) -> Exception:
    told = f"{url} answered {failure.message}"
    if failure.kind == "account":
        return AccountError(f"{told}; no request can succeed until the key, the credit or the quota is mended")
    if failure.kind == "busy":
        return _BusyError(failure)
    kinds = {"address": ConfigError, "refused": EndpointRefused, "failed": EndpointFailed}
    return kinds[failure.kind](told)
