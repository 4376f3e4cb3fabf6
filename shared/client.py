"""RewardClient: sends groups of candidate edits over HTTP and returns scores or typed errors.

Takes one URL, or those of several replicas: a group goes to the replica that has seen its source before, and to the
next one if that fails.

    async with RewardClient("http://127.0.0.1:8000") as client:
        await client.wait_ready(300)
        scores = await client.score(EditGroup(instruction="make it red", sources=(a,), candidates=(b, c)))

Transient failures (lost connection, 429, 503) are retried here, so callers see only scores, a rejection
(`RewardRequestRejected`) or a service that stayed unavailable (`RewardServiceUnavailable`).
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import httpx
import stamina
from pydantic import ValidationError

from edit_r1.shared.connections import http_failures
from edit_r1.shared.connections.http_clients import async_client
from edit_r1.shared.connections.proxies import proxy_for
from edit_r1.shared.errors import RewardRequestRejected, RewardServiceError, RewardServiceUnavailable
from edit_r1.shared.images import content_hash, mime_type
from edit_r1.shared.replicas import Replicas
from edit_r1.shared.schemas import (
    EditGroup,
    MethodInfo,
    Problem,
    PromptResponse,
    ScoreOptions,
    ScoreResponse,
    ServiceInfo,
)

_NOT_OURS = "not_a_problem_document"
_POLL_SECONDS = 0.5


class _TryAgainLaterError(RewardServiceError):
    """The service asked us to retry later."""

    def __init__(self, problem: Problem, retry_after_seconds: float | None) -> None:
        super().__init__(f"{problem.status} {problem.code}: {problem.detail}")
        self.retry_after_seconds = retry_after_seconds


class RewardClient:
    """A connection to one reward service, or to several replicas of it; an async context manager.

    Args:
        url: the service's root URL, e.g. `http://127.0.0.1:8000`, or those of its replicas.
        api_key: sent as `Authorization: Bearer` if given, without surrounding white space; one that cannot be sent is a
            ConfigError, which does not show it.
        timeout_seconds: per attempt, from the last byte sent to the first byte of the response.
        max_in_flight: maximum number of concurrent requests; further `score` calls wait their turn.
        retry_seconds: how long to retry transient failures before `RewardServiceUnavailable`; None: forever.
        on_trouble: called with the reason each time an attempt fails and will be retried.

    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        api_key: str | None = None,
        timeout_seconds: float = 300.0,
        max_in_flight: int = 16,
        retry_seconds: float | None = 120.0,
        on_trouble: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._on_trouble = on_trouble
        self._replicas = Replicas([url] if isinstance(url, str) else url)
        self._model: str | None = None
        self._retry_seconds = retry_seconds
        self._slots = asyncio.Semaphore(max_in_flight)
        limits = httpx.Limits(max_connections=max_in_flight + 2, max_keepalive_connections=max_in_flight + 2)
        timeout = httpx.Timeout(timeout_seconds, connect=min(10.0, timeout_seconds))
        self._http = async_client(api_key=api_key, timeout=timeout, limits=limits)

    @property
    def url(self) -> str:
        """The service URL for messages; several replicas are separated by commas."""
        return str(self._replicas)

    async def __aenter__(self) -> RewardClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        await self._http.aclose()

    async def wait_ready(self, limit_seconds: float, on_wait: Callable[[str], None] | None = None) -> ServiceInfo:
        """Wait until the service, or at least one of its replicas, is ready to score.

        All ready replicas must have the same model, methods and API version. Replicas that come up later are used as
        soon as they respond.

        Args:
            limit_seconds: maximum time to wait.
            on_wait: called with a readable message each time the reason for waiting changes, and for each replica
                that is not ready yet when others are.

        Raises:
            RewardServiceUnavailable: still not ready after the limit; the message names URL, limit and reason.
            RewardRequestRejected: the service is up but rejects us (e.g. a wrong key).
            RewardServiceError: two replicas differ.

        """
        deadline = time.monotonic() + limit_seconds
        told = None
        while True:
            reasons = dict(zip(self._replicas.urls, await self._reasons_not_ready(), strict=True))
            ready = [url for url, reason in reasons.items() if reason is None]
            if ready:
                break
            reason = "; ".join(dict.fromkeys(filter(None, reasons.values())))
            if time.monotonic() >= deadline:
                hint = (
                    "; is it running? start one with: edit-r1 serve" if http_failures.NOBODY_LISTENS in reason else ""
                )
                raise RewardServiceUnavailable(
                    f"reward service at {self.url} not ready after {limit_seconds:g} s: {reason}{hint}"
                )
            if on_wait and reason != told:
                on_wait(f"waiting for the reward service at {self.url}: {reason}")
            told = reason
            await asyncio.sleep(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))
        for url, missing in reasons.items():
            if missing is not None:
                self._replicas.rest(url)
                if on_wait:
                    on_wait(f"continuing without the replica at {url}: {missing}")
        return await self._common_info(ready)

    async def score(self, group: EditGroup) -> ScoreResponse:
        """Score one group; `results` are in the order of `group.candidates`, with failed candidates as errors.

        Raises:
            RewardRequestRejected: the whole request was rejected (unreadable source, unknown method, ...).
            RewardServiceUnavailable: the service stayed unreachable, busy or unready for `retry_seconds`.
            RewardServiceError: a replica uses a different model than the rest.

        """
        answer = await self._post("/v1/score", group)
        scores = ScoreResponse.model_validate_json(answer.content)
        if self._model is not None and scores.model != self._model:
            raise RewardServiceError(f"{answer.url} scores with {scores.model}, the other replicas with {self._model}")
        return scores

    async def prompt(self, group: EditGroup) -> PromptResponse:
        """The questions that the judge would be asked about the group's first candidate. Raises like `score`."""
        answer = await self._post("/v1/prompt", group)
        return PromptResponse.model_validate_json(answer.content)

    async def info(self) -> ServiceInfo:
        """The service's model, engine, limits, methods and tasks. Raises like `score`."""
        return ServiceInfo.model_validate_json((await self._request("GET", "/v1/info")).content)

    async def methods(self) -> list[MethodInfo]:
        """The service's scoring methods. Raises like `score`."""
        return [MethodInfo.model_validate(item) for item in (await self._request("GET", "/v1/methods")).json()]

    async def _post(self, path: str, group: EditGroup) -> httpx.Response:
        key = content_hash(b"".join(group.sources)) if len(self._replicas.urls) > 1 else ""
        async with self._slots:
            # The same id for every attempt, so all log lines of the service about one group share it.
            headers = {"X-Request-ID": uuid.uuid4().hex}
            return await self._request("POST", path, key, headers=headers, data=_fields(group), files=_files(group))

    async def _request(self, verb: str, path: str, key: str = "", **content: Any) -> httpx.Response:
        """One exchange, retried on transient failures."""
        started = time.monotonic()
        try:
            async for attempt in stamina.retry_context(
                on=_backoff, attempts=None, timeout=self._retry_seconds, wait_initial=0.2, wait_max=10.0
            ):
                with attempt:
                    return await self._try_replicas(verb, path, key, **content)
        except (httpx.TransportError, _TryAgainLaterError) as error:
            waited = f"{time.monotonic() - started:.0f} s"
            raise RewardServiceUnavailable(
                f"reward service at {self.url} gave no answer to {verb} {path} in {waited}: "
                f"{http_failures.reason(error)}"
            ) from error
        raise AssertionError("unreachable: retry_context ends by return or raise")

    async def _try_replicas(self, verb: str, path: str, key: str, **content: Any) -> httpx.Response:
        """Try each replica once, in the key's order, until one answers; raises the last one's error."""
        last: httpx.TransportError | _TryAgainLaterError | None = None
        for url in self._replicas.order(key):
            try:
                answer = _checked(await self._http.request(verb, f"{url}{path}", **content))
            except (httpx.TransportError, _TryAgainLaterError) as error:
                self._replicas.rest(url)
                last = error
                self._on_trouble(http_failures.reason(error))
            else:
                self._replicas.wake(url)
                return answer
        assert last is not None  # noqa: S101 - there is at least one replica
        raise last

    async def _common_info(self, urls: Sequence[str]) -> ServiceInfo:
        """The `/v1/info` that these replicas share; raises RewardServiceError if two differ."""
        answers = [_checked(await self._http.get(f"{url}/v1/info")) for url in urls]
        first, *others = (ServiceInfo.model_validate_json(answer.content) for answer in answers)
        for url, other in zip(urls[1:], others, strict=True):
            for field in ("model", "methods", "api_version"):
                found, expected = getattr(other, field), getattr(first, field)
                if found != expected:
                    raise RewardServiceError(f"replicas differ in {field}: {urls[0]} has {expected}, {url} has {found}")
        self._model = first.model
        return first

    async def _reasons_not_ready(self) -> list[str | None]:
        return await asyncio.gather(*(self._why_not_ready(url) for url in self._replicas.urls))

    async def _why_not_ready(self, url: str) -> str | None:
        """None if ready, else the reason in a few words."""
        try:
            answer = await self._http.get(f"{url}/readyz")
        except httpx.TransportError as error:
            return http_failures.reason(error)
        if answer.status_code in http_failures.TRANSIENT_STATUSES:
            return _problem(answer).detail
        _checked(answer)
        return None


def _fields(group: EditGroup) -> dict[str, str]:
    """The form's text fields; None values are omitted, so the service applies its defaults."""
    options = group.model_dump(mode="json", include=set(ScoreOptions.model_fields), exclude_none=True)
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}


def _files(group: EditGroup) -> list[tuple[str, tuple[str, bytes, str]]]:
    named = [("source", data) for data in group.sources] + [("candidates", data) for data in group.candidates]
    if group.mask is not None:
        named.append(("mask", group.mask))
    return [(name, (f"{name}-{i}", data, mime_type(data))) for i, (name, data) in enumerate(named)]


def _checked(answer: httpx.Response) -> httpx.Response:
    """The response if successful, else raises the typed error. Redirects count as rejections: a proxy is in the way."""
    if answer.is_success:
        return answer
    problem = _problem(answer)
    # The service's own 500 is a problem document; any other comes from a proxy that lost the replica behind it.
    if answer.status_code in http_failures.TRANSIENT_STATUSES or (
        answer.status_code == 500 and problem.code == _NOT_OURS
    ):
        raise _TryAgainLaterError(problem, http_failures.retry_after(answer))
    raise RewardRequestRejected(problem)


def _problem(answer: httpx.Response) -> Problem:
    """The problem document of an error response; built from the status line if something else answered."""
    try:
        return Problem.model_validate_json(answer.content)
    except ValidationError:
        proxy = proxy_for(answer.request.url)
        detail = answer.text[:200] or answer.reason_phrase
        return Problem(
            title=answer.reason_phrase,
            status=answer.status_code,
            detail=detail if proxy is None else f"{detail} (through {proxy})",
            code=_NOT_OURS,
        )


def _backoff(error: Exception) -> bool | float:
    """Stamina's hook: True to use its own backoff, seconds if the service asked for a delay, False to give up."""
    if isinstance(error, _TryAgainLaterError) and error.retry_after_seconds is not None:
        return error.retry_after_seconds
    return isinstance(error, httpx.TransportError | _TryAgainLaterError)
