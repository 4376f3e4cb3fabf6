"""Asks a judge behind a chat endpoint about many images and stores every answer.

Takes questions (a text and images) and returns an answer for each: its text, or the reason why there is none. Answers
are stored in a JSON-lines file under a hash of the question, so that a second run asks only for missing ones. A refusal
of one question counts as an answer. An unreachable judge or a refused account does not, and ends the evaluation.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from edit_r1.shared.chat.completions import Usage
from edit_r1.shared.errors import EndpointFailed, EndpointRefused
from edit_r1.shared.images import content_hash, encode_png
from edit_r1.shared.jsonl import append_rows, cut_torn_end, read_objects
from edit_r1.shared.sources import FileSource
from edit_r1.workbench.clients.chat import ChatClient, Part, Reply, picture_part, text_part
from edit_r1.workbench.clients.spending import QuestionSize


@dataclass(frozen=True)
class Shown:
    """An image shown to the judge."""

    path: Path
    like: Path | None = None
    """Resize to the size of this image."""

    def fingerprint(self) -> list[str]:
        """Equal images have equal fingerprints, wherever they are stored."""
        size = [] if self.like is None else ["at the size of", content_hash(self.like.read_bytes())]
        return [content_hash(self.path.read_bytes()), *size]

    def png(self) -> bytes:
        """The PNG to send. Raises DataError naming an unreadable file."""
        image = FileSource(self.path).open()
        if self.like is not None and image.size != (size := FileSource(self.like).open().size):
            image = image.resize(size)  # Pillow's default filter, like the authors' script
        return encode_png(image)

    def num_pixels(self) -> int:
        """Pixels of the image to send. Raises DataError naming an unreadable file."""
        width, height = FileSource(self.like or self.path).size()
        return width * height


@dataclass(frozen=True)
class Question:
    """One message to the judge: a text followed by images in order."""

    name: str
    """Human-readable name."""
    text: str
    pictures: tuple[Shown, ...]

    def parts(self) -> list[Part]:
        """The parts of the message. Raises DataError like `Shown.png`."""
        return [text_part(self.text), *(picture_part(shown.png()) for shown in self.pictures)]

    def size(self) -> QuestionSize:
        """Its size, read from the images' headers. Raises DataError naming an unreadable file."""
        return QuestionSize(len(self.text), tuple(shown.num_pixels() for shown in self.pictures))


@dataclass(frozen=True)
class Answer:
    """The judge's answer; exactly one of `text` and `trouble` is None."""

    text: str | None
    trouble: str | None = None
    """Why there is no text: `refused: ...`, `failed: ...` or `cut: ...`."""
    cut: str | None = None
    """A message if the text was cut off at the token limit."""
    usage: Usage | None = None
    """Tokens by the server's count; None if it reports none."""


class _AnswerLine(BaseModel):
    key: str
    question: str
    text: str | None
    trouble: str | None
    answered_by: str
    cut: str | None = None
    usage: Usage | None = None


class AnswerStore:
    """Answers by the hash of their question, in an append-only file."""

    def __init__(self, path: Path) -> None:
        """Read existing answers. Raises DataError naming an invalid line."""
        self._path = path
        self._answers: dict[str, Answer] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            cut_torn_end(path)
            for _, line in read_objects(path, _AnswerLine):
                self._answers[line.key] = Answer(line.text, line.trouble, line.cut, line.usage)

    def get(self, key: str) -> Answer | None:
        """The stored answer; None when not asked yet."""
        return self._answers.get(key)

    def add(self, key: str, question: Question, answer: Answer, model: str) -> None:
        """Store an answer; model: name reported by the server."""
        self._answers[key] = answer
        line = _AnswerLine(
            key=key,
            question=question.name,
            text=answer.text,
            trouble=answer.trouble,
            answered_by=model,
            cut=answer.cut,
            usage=answer.usage,
        )
        append_rows(self._path, [line.model_dump(exclude_defaults=True)])


class Judge:
    """Asks the questions that its store has no answers to.

    Args:
        client: client of the judge's endpoint.
        store: storage of answers.

    """

    def __init__(self, client: ChatClient, store: AnswerStore) -> None:
        self._client, self._store = client, store
        self._refusals: list[tuple[str, Question, Answer]] | None = []
        """Refusals held back until something is answered, since a server that refuses everything is misconfigured; then
        None."""

    async def ask(self, questions: Sequence[Question], on_answer: Callable[[], None] = lambda: None) -> list[Answer]:
        """Answers in the questions' order; on_answer is called after each.

        Raises:
            AccountError: the endpoint refuses the account; nothing is stored for this question.
            ConfigError: it rejects the model or the address.
            EndpointUnavailable: it was unreachable or busy for `retry_seconds`. Answers up to then are stored.
            DataError: an image cannot be read.

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

    async def pending(self, questions: Sequence[Question]) -> list[Question]:
        """The questions that have no stored answer."""
        keys = [await asyncio.to_thread(self._key, question) for question in questions]
        return [question for question, key in zip(questions, keys, strict=True) if self._store.get(key) is None]

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
            return Answer(None, f"failed: {error}")  # not stored: the next run asks again
        if reply.declined is not None:
            return self._refused(key, question, reply.declined, reply.usage)
        for refusal in self._refusals or ():
            self._store.add(*refusal, self._client.endpoint.model)
        self._refusals = None
        self._store.add(key, question, answer := self._answered(reply), reply.model)
        return answer

    def _answered(self, reply: Reply) -> Answer:
        """An answer with text, or one that was cut off before its text; both are stored, as the hash has the limit."""
        cut = None
        if reply.cut:
            limit = self._client.endpoint.max_tokens
            cut = f"cut: the answer reached the limit of {limit} tokens; raise --judge-max-tokens"
        if cut and not reply.text:
            return Answer(None, cut, usage=reply.usage)
        return Answer(reply.text, cut=cut, usage=reply.usage)

    def _refused(self, key: str, question: Question, reason: str, usage: Usage | None = None) -> Answer:
        answer = Answer(None, f"refused: {reason}", usage=usage)
        if self._refusals is None:
            self._store.add(key, question, answer, self._client.endpoint.model)
        else:
            self._refusals.append((key, question, answer))
        return answer

    def _key(self, question: Question) -> str:
        """Hash of everything the answer depends on; excludes the URL, because servers move."""
        pictures = [picture.fingerprint() for picture in question.pictures]
        endpoint = self._client.endpoint
        return content_hash(json.dumps([endpoint.model, endpoint.max_tokens, question.text, pictures]).encode())
