"""`edit-r1 data rationality`: does an instruction make sense for its picture? A multimodal model says Yes or No.

Enter: tasks. Leave: those that a model behind an OpenAI-compatible endpoint answers with Yes, in their order. Passing
trouble is tried again; a judgement that fails for good ends the command, which goes on there when it is started again.
Source: arXiv:2510.16888, Section 3.1 (it asks Qwen2.5-VL-32B); the question is ours.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import stamina
from PIL import Image
from pydantic import BaseModel, ValidationError

from shared import images
from shared.errors import ConfigError, DataError, EndpointError
from trainer.data import TaskLine
from trainer.data_prep import pictures
from trainer.data_prep.lists import Line
from trainer.data_prep.mix import renamed
from trainer.data_prep.pictures import Renaming
from trainer.data_prep.streaming import Outcome, Say

NO, UNCLEAR = "answer No", "unclear"
QUESTION_PATH = Path(__file__).parent / "texts" / "rationality.txt"
_PLACEHOLDER = "{instruction}"
_TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_ANSWER_TOKENS = 16
_SHOWN = 120


@dataclass(frozen=True)
class Endpoint:
    """A model that someone serves."""

    url: str
    """Root of the API, such as http://gpu-1:8000/v1."""
    model: str
    api_key: str | None = None
    in_flight: int = 8
    """Questions on the wire at once."""
    timeout_seconds: float = 120.0
    """Of one try."""
    retry_seconds: float = 300.0
    """How long passing trouble is tried again."""
    max_pixels: int = 1_000_000
    """Larger pictures are sent smaller."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"--url must be the root of an API such as http://gpu-1:8000/v1, found {self.url!r}")


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message


class _Completion(BaseModel):
    choices: list[_Choice]


class Judge:
    """Asks the endpoint; an async context manager."""

    def __init__(self, endpoint: Endpoint, question: str) -> None:
        """question: with `{instruction}` where the task's stands."""
        self._endpoint, self._question = endpoint, question
        headers = {"Authorization": f"Bearer {endpoint.api_key}"} if endpoint.api_key else {}
        limits = httpx.Limits(max_connections=endpoint.in_flight)
        self._http = httpx.AsyncClient(headers=headers, timeout=endpoint.timeout_seconds, limits=limits)
        self._slots = asyncio.Semaphore(endpoint.in_flight)

    async def __aenter__(self) -> Judge:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def ask(self, sources: Iterable[Path], instruction: str) -> str:
        """The model's answer. Raises DataError for a picture that cannot be read, EndpointError when none comes."""
        async with self._slots:
            # Decoding and encoding would hold up the answers of the others.
            urls = await asyncio.to_thread(lambda: [self._data_url(path) for path in sources])
            text = self._question.replace(_PLACEHOLDER, instruction)
            content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
            content.append({"type": "text", "text": text})
            return await self._complete(
                {
                    "model": self._endpoint.model,
                    "messages": [{"role": "user", "content": content}],
                    "temperature": 0.0,
                    "max_tokens": _ANSWER_TOKENS,
                }
            )

    async def _complete(self, body: dict[str, Any]) -> str:
        url = f"{self._endpoint.url.rstrip('/')}/chat/completions"
        try:
            async for attempt in stamina.retry_context(
                on=_passing, attempts=None, timeout=self._endpoint.retry_seconds, wait_initial=0.2, wait_max=20.0
            ):
                with attempt:
                    answer = (await self._http.post(url, json=body)).raise_for_status()
        except httpx.HTTPStatusError as error:
            found = error.response
            raise EndpointError(f"{url} answered {found.status_code}: {found.text[:300]}") from error
        except httpx.TransportError as error:
            raise EndpointError(f"{url} gave no answer in {self._endpoint.retry_seconds:g} s: {error!r}") from error
        try:
            return _Completion.model_validate_json(answer.content).choices[0].message.content or ""
        except (ValidationError, IndexError) as error:
            raise EndpointError(f"{url} answered with no chat completion: {answer.text[:300]}") from error

    def _data_url(self, path: Path) -> str:
        return images.data_url(images.encode(_shrunk(pictures.load(path), self._endpoint.max_pixels)))


async def keep(line: Line[TaskLine], judge: Judge, directory: Path, rename: Renaming, say: Say) -> Outcome:
    """The line, if the judge says Yes; `directory` is the list's. Raises EndpointError when it says nothing."""
    try:
        answer = await judge.ask([directory / name for name in line.value.names], line.value.prompt)
    except DataError as error:
        return Outcome(dropped=(str(error),))
    verdict = read_verdict(answer)
    if verdict is None:
        say(f"line {line.number}: unclear answer {answer[:_SHOWN]!r}")
        return Outcome(dropped=(UNCLEAR,))
    return Outcome((renamed(line.value, rename),)) if verdict else Outcome(dropped=(NO,))


def read_verdict(answer: str) -> bool | None:
    """True for Yes, False for No, by the answer's first word; None for anything else."""
    first = re.match(r"\W*(\w+)", answer)
    return {"yes": True, "no": False}.get(first[1].casefold()) if first else None


def read_question(path: Path) -> str:
    """The question's text. Raises DataError when it names no instruction."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read question {path}: {error}") from error
    if _PLACEHOLDER not in text:
        raise DataError(f"question {path} must hold {_PLACEHOLDER} where the instruction stands")
    return text


def _shrunk(picture: Image.Image, max_pixels: int) -> Image.Image:
    scale = math.sqrt(max_pixels / (picture.width * picture.height))
    if scale >= 1:
        return picture
    size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _passing(error: Exception) -> bool | float:
    """Stamina's hook: True for its own backoff, seconds for the server's wish, False to give up."""
    if isinstance(error, httpx.HTTPStatusError):
        wish = error.response.headers.get("Retry-After", "")
        passing = error.response.status_code in _TRANSIENT_STATUSES
        return float(wish) if passing and wish.isdecimal() else passing
    return isinstance(error, httpx.TransportError)
