"""The principles that verifiers check for an edit, written by the judge or taken from text files.

Returns the principles of a `Brief`, the same for every candidate of a group. The judge is asked once per (source,
instruction); groups that need the same principles at the same time share one answer.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, get_args

from edit_r1.reward_service.engines.base import Engine
from edit_r1.reward_service.methods.answers import parse_entries
from edit_r1.reward_service.methods.templates import conversation, fill_brief, load_by_task, placeholders
from edit_r1.reward_service.scoring.answering import answer_to_the_end
from edit_r1.reward_service.types import Brief, Principle, Question, SamplingSpec
from edit_r1.shared.errors import ConfigError, UnparsableAnswerError
from edit_r1.shared.schemas import DEFAULT_TASK, Category

_CATEGORIES = get_args(Category)
_LINE = re.compile(rf"({'|'.join(_CATEGORIES)})(?:\s+(\d+(?:\.\d+)?))?\s*:\s*(.+)")
_MAX_PRINCIPLES = 16
_MAX_TRIES = 3
_CACHED = 4096
_SPEC = SamplingSpec(max_tokens=1024)


class Principles(Protocol):
    """A source of principles."""

    async def of(self, brief: Brief) -> tuple[Principle, ...]:
        """The principles of an edit. Raises JudgeError if there are none."""
        ...


class WrittenPrinciples:
    """Principles from text files: one `<task>.txt` per task type, and `default.txt` for the others.

    Each line is `category: question` or `category weight: question`; `{instruction}` and `{requirement}` are filled in.

    Raises:
        ConfigError: no default.txt, or a line that is not a principle; names file and line.

    """

    def __init__(self, directory: Path) -> None:
        texts = load_by_task(directory, "principles")
        self._by_task = {task: _parse_lines(text, directory / f"{task}.txt") for task, text in texts.items()}

    async def of(self, brief: Brief) -> tuple[Principle, ...]:
        """The principles in the task's file, with placeholders filled in."""
        templates = self._by_task.get(brief.task) or self._by_task[DEFAULT_TASK]
        return tuple(replace(one, question=fill_brief(one.question, brief)) for one in templates)


class JudgedPrinciples:
    """Principles that the judge writes for each (sources, instruction, requirement), cached for later groups."""

    def __init__(self, engine: Engine, template: str, max_thinking_tokens: int = 0) -> None:
        """max_thinking_tokens: tokens for the judge's thoughts, in addition to its answer."""
        self._engine = engine
        self._spec = replace(_SPEC, max_tokens=_SPEC.max_tokens + max_thinking_tokens)
        self._template = template
        self._written: OrderedDict[tuple[object, ...], asyncio.Task[tuple[Principle, ...]]] = OrderedDict()

    async def of(self, brief: Brief) -> tuple[Principle, ...]:
        """The judge's principles, written on first use. Raises UnparsableAnswerError or EngineError."""
        key = (tuple(image.digest for image in brief.sources), brief.instruction, brief.requirement)
        task = self._written.get(key)
        if task is None:
            task = self._written[key] = asyncio.create_task(self._write(brief))
            task.add_done_callback(lambda done: self._forget_failure(key, done))
        self._written.move_to_end(key)
        while len(self._written) > _CACHED:
            self._written.popitem(last=False)
        # A client that disconnects must not cancel the answer for others who wait for it.
        return await asyncio.shield(task)

    async def _write(self, brief: Brief) -> tuple[Principle, ...]:
        messages = conversation(brief.sources, fill_brief(self._template, brief))
        for attempt in range(_MAX_TRIES):
            # The first try is greedy; later tries need randomness.
            spec = replace(self._spec, temperature=0.7 if attempt else 0.0, seed=attempt)
            try:
                answer = await answer_to_the_end(self._engine, Question(messages, spec))
                return self._checked(parse_principles(answer.text))
            except UnparsableAnswerError as error:
                reason = error
        raise UnparsableAnswerError(f"the judge wrote no principles in {_MAX_TRIES} tries: {reason}")

    def _checked(self, principles: tuple[Principle, ...]) -> tuple[Principle, ...]:
        """The same principles, checked for control tokens, which a client could make the judge write with JSON escapes.

        Raises:
            UnparsableAnswerError: a question contains one; it would be parsed as structure in the next prompt.

        """
        for principle in principles:
            for token in self._engine.chat.control_tokens:
                if token in principle.question:
                    raise UnparsableAnswerError(f"a principle written by the judge contains its control token {token}")
        return principles

    def _forget_failure(self, key: tuple[object, ...], done: asyncio.Task[tuple[Principle, ...]]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._written.pop(key, None)


def parse_principles(text: str) -> tuple[Principle, ...]:
    """Principles from the judge's JSON list.

    Raises:
        UnparsableAnswerError: no list, an entry without question or category, or no `follow` principle.

    """
    found = [_principle(entry) for entry in parse_entries(text)]
    if not 1 <= len(found) <= _MAX_PRINCIPLES:
        raise UnparsableAnswerError(f"the judge wrote {len(found)} principles; the limit is {_MAX_PRINCIPLES}")
    if not any(principle.category == "follow" for principle in found):
        raise UnparsableAnswerError("the judge wrote no principle of the category `follow`")
    return tuple(found)


def _principle(entry: Mapping[str, object]) -> Principle:
    question, category = entry.get("question"), entry.get("category")
    if not isinstance(question, str) or not question.strip() or category not in _CATEGORIES:
        raise UnparsableAnswerError(f"not a principle with question and category: {dict(entry)!r}")
    return Principle(question.strip(), next(name for name in _CATEGORIES if name == category))


def _parse_lines(text: str, path: Path) -> tuple[Principle, ...]:
    """The principles of one file."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line.strip())
        strange = placeholders(line) - {"instruction", "requirement"}
        if match is None or strange:
            what = f"unknown placeholder {{{min(strange)}}}" if strange else "expected `category: question`"
            raise ConfigError(f"principles in {path}, line {number}: {what}; categories: {', '.join(_CATEGORIES)}")
        category = next(name for name in _CATEGORIES if name == match[1])
        found.append(Principle(match[3], category, float(match[2] or 1)))
    if not found:
        raise ConfigError(f"principles in {path}: the file is empty")
    return tuple(found)
