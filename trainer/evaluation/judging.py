"""Asking a judge behind an OpenAI-compatible endpoint about many pictures; every answer is kept.

Enters: questions (a text, pictures). Leaves: an answer for each, its text or why there is none. Answers are kept in a
file of JSON lines under a hash of all that was asked, so that a second run asks only what is missing. A refusal is an
answer too; a judge that is away is not, and ends the evaluation.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import stamina

from shared.errors import ConfigError, RewardServiceUnavailable
from shared.images import content_hash, data_url, encode_png
from trainer.evaluation.files import open_picture

_BUSY = frozenset({408, 425, 429, 502, 503, 504})
_WRONG_ADDRESS = frozenset({401, 403, 404, 405})
_MAX_FAILURES = 4
_SHOWN = 300


@dataclass(frozen=True)
class Shown:
    """A picture that the judge sees."""

    path: Path
    like: Path | None = None
    """It is resized to this picture's size."""

    def fingerprint(self) -> list[str]:
        """Equal pictures, equal fingerprint, wherever they lie."""
        size = [] if self.like is None else ["at the size of", content_hash(self.like.read_bytes())]
        return [content_hash(self.path.read_bytes()), *size]

    def data_url(self) -> str:
        """A PNG. Raises DataError naming the file that cannot be read."""
        image = open_picture(self.path)
        if self.like is not None and image.size != (size := open_picture(self.like).size):
            image = image.resize(size)  # Pillow's default filter, as the authors' script
        return data_url(encode_png(image))


@dataclass(frozen=True)
class Question:
    """One message to the judge: a text, then pictures in their order."""

    name: str
    """For people."""
    text: str
    pictures: tuple[Shown, ...]


@dataclass(frozen=True)
class Answer:
    """What came back; exactly one of the two is None."""

    text: str | None
    trouble: str | None = None
    """Why there is no text: `refused: ...` or `failed: ...`."""


class AnswerStore:
    """Answers by the hash of their question, in a file that only grows."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a line that was cut off when its process died counts as not written."""
        self._path = path
        self._answers: dict[str, Answer] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        data = path.read_bytes() if path.exists() else b""
        for line in data.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            self._answers[record["key"]] = Answer(record["text"], record["trouble"])
        if data and not data.endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b"\n")

    def get(self, key: str) -> Answer | None:
        """None: not asked yet."""
        return self._answers.get(key)

    def add(self, key: str, question: Question, answer: Answer, model: str) -> None:
        """Keep an answer; model: what the server says has answered."""
        self._answers[key] = answer
        record = {
            "key": key,
            "question": question.name,
            "text": answer.text,
            "trouble": answer.trouble,
            "answered_by": model,
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


class _BusyError(Exception):
    """The server asked to be tried again."""

    def __init__(self, message: str, retry_after_seconds: float | None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class _FailedError(Exception):
    """The server broke down over this question, or its answer is no chat completion."""


class _RefusedError(Exception):
    """The server will not answer this question."""


class Judge:
    """A connection to an endpoint; an async context manager.

    Args:
        url: the API's root, as `http://127.0.0.1:8000/v1`.
        model: its name there.
        store: where answers are kept.
        api_key: sent as `Authorization: Bearer` when given.
        max_in_flight: questions on the wire at once.
        max_tokens: of an answer.
        timeout_seconds: of one try of one question.
        retry_seconds: how long passing trouble is tried again before the evaluation ends.

    """

    def __init__(
        self,
        url: str,
        model: str,
        store: AnswerStore,
        *,
        api_key: str | None = None,
        max_in_flight: int,
        max_tokens: int,
        timeout_seconds: float = 300.0,
        retry_seconds: float,
    ) -> None:
        self._url = url.rstrip("/").removesuffix("/chat/completions")
        self._model, self._store = model, store
        self._max_tokens, self._retry_seconds = max_tokens, retry_seconds
        self._slots = asyncio.Semaphore(max_in_flight)
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx.Limits(max_connections=max_in_flight, max_keepalive_connections=max_in_flight)
        timeout = httpx.Timeout(timeout_seconds, connect=min(10.0, timeout_seconds))
        self._http = httpx.AsyncClient(headers=headers, limits=limits, timeout=timeout)
        self._refusals: list[tuple[str, Question, Answer]] | None = []
        """Kept back until something is answered: a server that refuses everything is set up wrong. None: it did."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def check(self) -> None:
        """Find the endpoint, below `url` or `url`/v1, and the model there. Raises ConfigError."""
        answer = None
        for url in (self._url, f"{self._url}/v1"):
            try:
                answer = await self._http.get(f"{url}/models")
            except (httpx.TransportError, httpx.InvalidURL) as error:
                reason = str(error) or type(error).__name__
                raise ConfigError(f"no judge at {self._url}: {reason}; --judge-url is an API's root") from error
            if answer.is_success:
                self._url = url
                break
            if answer.status_code in (401, 403):
                raise ConfigError(f"the judge at {self._url} refuses the key: {answer.status_code} {_detail(answer)}")
        served = _served(answer)
        if served and self._model not in served:
            raise ConfigError(f"the judge at {self._url} serves {', '.join(served[:10])}, not {self._model!r}")

    async def ask(self, questions: Sequence[Question], on_answer: Callable[[], None] = lambda: None) -> list[Answer]:
        """Answers in the questions' order; on_answer is called after each.

        Raises:
            ConfigError: the endpoint answers, but not to us or not for this model.
            RewardServiceUnavailable: it stayed away or busy for `retry_seconds`. Answers until then are kept.
            DataError: a picture cannot be read.

        """

        async def one(question: Question) -> Answer:
            async with self._slots:
                answer = await self._answer(question)
            on_answer()
            return answer

        tasks = [asyncio.ensure_future(one(question)) for question in questions]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    def key(self, question: Question) -> str:
        """The name of a question with all that its answer depends on; not where the model is served."""
        pictures = [picture.fingerprint() for picture in question.pictures]
        return content_hash(json.dumps([self._model, self._max_tokens, question.text, pictures]).encode())

    async def _answer(self, question: Question) -> Answer:
        key = await asyncio.to_thread(self.key, question)
        known = self._store.get(key)
        if known is not None:
            return known
        try:
            text, model = await self._exchange(question)
        except _RefusedError as error:
            answer = Answer(None, f"refused: {error}")
            if self._refusals is None:
                self._store.add(key, question, answer, self._model)
            else:
                self._refusals.append((key, question, answer))
            return answer
        except _FailedError as error:
            return Answer(None, f"failed: {error}")  # not kept: the next run asks again
        for refusal in self._refusals or ():
            self._store.add(*refusal, self._model)
        self._refusals = None
        self._store.add(key, question, answer := Answer(text), model)
        return answer

    async def _exchange(self, question: Question) -> tuple[str, str]:
        """The judge's text and its model's name, tried again on passing trouble."""
        started = time.monotonic()
        body = await asyncio.to_thread(self._body, question)
        try:
            async for attempt in stamina.retry_context(
                on=_Patience(), attempts=None, timeout=self._retry_seconds, wait_initial=0.2, wait_max=10.0
            ):
                with attempt:
                    return _read(await self._http.post(f"{self._url}/chat/completions", json=body))
        except (httpx.TransportError, _BusyError) as error:
            waited = time.monotonic() - started
            raise RewardServiceUnavailable(
                f"the judge at {self._url} gave no answer in {waited:.0f} s: {str(error) or type(error).__name__}; "
                f"the answers so far are kept, the same command goes on from there"
            ) from error
        raise AssertionError("unreachable: retry_context ends by return or raise")

    def _body(self, question: Question) -> dict[str, Any]:
        pictures = [{"type": "image_url", "image_url": {"url": shown.data_url()}} for shown in question.pictures]
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": [{"type": "text", "text": question.text}, *pictures]}],
            "temperature": 0,
            "max_tokens": self._max_tokens,
        }


class _Patience:
    """Stamina's hook for one question: busy and lost connections are always tried again, failures a few times."""

    def __init__(self) -> None:
        self._num_failures = 0

    def __call__(self, error: Exception) -> bool | float:
        if isinstance(error, _BusyError) and error.retry_after_seconds is not None:
            # Spread those that were all told the same number.
            return error.retry_after_seconds * (1 + random.random() / 4)  # noqa: S311
        if isinstance(error, _FailedError):
            self._num_failures += 1
            return self._num_failures < _MAX_FAILURES
        return isinstance(error, httpx.TransportError | _BusyError)


def _read(answer: httpx.Response) -> tuple[str, str]:
    """Text and model of a chat completion; else the error that says what to do about it."""
    status = f"{answer.status_code} {_detail(answer)}"
    if answer.status_code in _BUSY:
        after = answer.headers.get("Retry-After", "")
        raise _BusyError(status, float(after) if after.isdecimal() else None)
    if answer.status_code in _WRONG_ADDRESS:
        raise ConfigError(f"the judge at {answer.url} refuses us: {status}")
    if answer.is_client_error:
        raise _RefusedError(status)
    if not answer.is_success:
        raise _FailedError(status)
    try:
        completion = answer.json()
        message = completion["choices"][0]["message"]
        text, refusal = message.get("content"), message.get("refusal")
        model = str(completion.get("model", ""))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _FailedError(f"no chat completion: {_detail(answer)!r}") from error
    if refusal or text is None:
        raise _RefusedError(str(refusal or completion["choices"][0].get("finish_reason") or "an empty answer"))
    if not isinstance(text, str):
        raise _FailedError(f"a content of type {type(text).__name__}, text is expected")
    return text, model


def _detail(answer: httpx.Response) -> str:
    """What a server says about its refusal, shortly."""
    try:
        body: Any = answer.json()
        error = body["error"] if isinstance(body, Mapping) and "error" in body else body
        return str(error["message"] if isinstance(error, Mapping) and "message" in error else error)[:_SHOWN]
    except ValueError:
        return answer.text[:_SHOWN] or answer.reason_phrase


def _served(answer: httpx.Response | None) -> list[str]:
    """Names of the models; empty where an endpoint does not list them."""
    if answer is None or not answer.is_success:
        return []
    try:
        return [str(one["id"]) for one in answer.json()["data"]]
    except (ValueError, LookupError, TypeError):
        return []
