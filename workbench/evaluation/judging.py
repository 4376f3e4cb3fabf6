"""Asking a judge behind a chat endpoint about many pictures; every answer is kept.

Enters: questions (a text, pictures). Leaves: an answer for each, its text or why there is none. Answers are kept in a
file of JSON lines under a hash of all that was asked, so that a second run asks only what is missing. A refusal is an
answer too; a judge that is away is not, and ends the evaluation.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from edit_r1.shared.errors import EndpointFailed, EndpointRefused
from edit_r1.shared.images import content_hash, encode_png
from edit_r1.shared.jsonl import append_rows, cut_torn_end, read_objects
from edit_r1.trainer.tasks.task_list import open_picture
from edit_r1.workbench.clients.chat import ChatClient, Part, picture_part, text_part


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

    def png(self) -> bytes:
        """What is sent. Raises DataError naming the file that cannot be read."""
        image = open_picture(self.path)
        if self.like is not None and image.size != (size := open_picture(self.like).size):
            image = image.resize(size)  # Pillow's default filter, as the authors' script
        return encode_png(image)


@dataclass(frozen=True)
class Question:
    """One message to the judge: a text, then pictures in their order."""

    name: str
    """For people."""
    text: str
    pictures: tuple[Shown, ...]

    def parts(self) -> list[Part]:
        """The message. Raises DataError as `Shown.png` does."""
        return [text_part(self.text), *(picture_part(shown.png()) for shown in self.pictures)]


@dataclass(frozen=True)
class Answer:
    """What came back; exactly one of the two is None."""

    text: str | None
    trouble: str | None = None
    """Why there is no text: `refused: ...` or `failed: ...`."""


class _AnswerLine(BaseModel):
    key: str
    question: str
    text: str | None
    trouble: str | None
    answered_by: str


class AnswerStore:
    """Answers by the hash of their question, in a file that only grows."""

    def __init__(self, path: Path) -> None:
        """Read what is there. Raises DataError naming a line that is no answer."""
        self._path = path
        self._answers: dict[str, Answer] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            cut_torn_end(path)
            for _, line in read_objects(path, _AnswerLine):
                self._answers[line.key] = Answer(line.text, line.trouble)

    def get(self, key: str) -> Answer | None:
        """None: not asked yet."""
        return self._answers.get(key)

    def add(self, key: str, question: Question, answer: Answer, model: str) -> None:
        """Keep an answer; model: what the server says has answered."""
        self._answers[key] = answer
        line = _AnswerLine(key=key, question=question.name, text=answer.text, trouble=answer.trouble, answered_by=model)
        append_rows(self._path, [line.model_dump()])


class Judge:
    """Asks what its store does not hold.

    Args:
        client: of the endpoint where the judge is.
        store: where answers are kept.

    """

    def __init__(self, client: ChatClient, store: AnswerStore) -> None:
        self._client, self._store = client, store
        self._refusals: list[tuple[str, Question, Answer]] | None = []
        """Kept back until something is answered: a server that refuses everything is set up wrong. None: it did."""

    async def ask(self, questions: Sequence[Question], on_answer: Callable[[], None] = lambda: None) -> list[Answer]:
        """Answers in the questions' order; on_answer is called after each.

        Raises:
            ConfigError: the endpoint answers, but not to us or not for this model.
            EndpointUnavailable: it stayed away or busy for the endpoint's `retry_seconds`. Answers until then are kept.
            DataError: a picture cannot be read.

        """

        async def one(question: Question) -> Answer:
            answer = await self._answer(question)
            on_answer()
            return answer

        tasks = [asyncio.ensure_future(one(question)) for question in questions]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def _answer(self, question: Question) -> Answer:
        key = await asyncio.to_thread(self._key, question)
        known = self._store.get(key)
        if known is not None:
            return known
        try:
            reply = await self._client.ask(question.parts)
        except EndpointRefused as error:
            return self._refused(key, question, str(error))
        except EndpointFailed as error:
            return Answer(None, f"failed: {error}")  # not kept: the next run asks again
        if reply.declined is not None:
            return self._refused(key, question, reply.declined)
        for refusal in self._refusals or ():
            self._store.add(*refusal, self._client.endpoint.model)
        self._refusals = None
        self._store.add(key, question, answer := Answer(reply.text), reply.model)
        return answer

    def _refused(self, key: str, question: Question, reason: str) -> Answer:
        answer = Answer(None, f"refused: {reason}")
        if self._refusals is None:
            self._store.add(key, question, answer, self._client.endpoint.model)
        else:
            self._refusals.append((key, question, answer))
        return answer

    def _key(self, question: Question) -> str:
        """The name of a question with all that its answer depends on; not where the model is served: servers move."""
        pictures = [picture.fingerprint() for picture in question.pictures]
        endpoint = self._client.endpoint
        return content_hash(json.dumps([endpoint.model, endpoint.max_tokens, question.text, pictures]).encode())
