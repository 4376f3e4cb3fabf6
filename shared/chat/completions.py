"""Reads chat completions of OpenAI-style endpoints: text, reasoning, usage and log-probabilities. Pure.

Takes a response's bytes and returns a `Completion`. Providers differ: an answer may be a list of parts, be null beside
`reasoning_content` or `reasoning`, or be absent because a filter removed it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_CUT = frozenset({"length", "max_tokens", "MAX_TOKENS"})
_FILTER = "content_filter"


class Usage(BaseModel):
    """Tokens counted, and paid for, by the provider."""

    model_config = ConfigDict(frozen=True)

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def plus(self, other: Usage) -> Usage:
        """The sum of both."""
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True)
class Position:
    """One generated token, and the most likely tokens in its place."""

    token: str
    logprob: float
    """Log-probability of `token`."""
    top: tuple[tuple[str, float], ...]
    """The most likely tokens with their log-probabilities; the list may lack `token`."""


@dataclass(frozen=True)
class Completion:
    """One answer."""

    text: str
    """Empty if there is none."""
    reasoning: str | None
    """Thinking that the server returns apart from the text."""
    declined: str | None
    """Why there is no text; None if there is one or if `cut`."""
    cut: bool
    """Whether the answer was cut off at the token limit; the text may then be empty."""
    model: str
    """Model name reported by the server; empty if there is none."""
    usage: Usage | None
    """None if the server does not report it."""
    thinks: bool
    """Whether the model spent tokens on thinking before its text."""
    positions: tuple[Position, ...]
    """[T], if log-probabilities were requested and returned; else empty."""


def read_completion(content: bytes) -> Completion:
    """Parse the body of a chat completion. Raises ValueError if it is not one."""
    body = _Body.model_validate_json(content)
    choice = body.choices[0]
    message, reason = choice.message, choice.finish_reason or ""
    reasoning = message.reasoning_content or message.reasoning or None
    cut = reason in _CUT
    declined = message.refusal or (reason if reason.startswith(_FILTER) else None)
    text = None if declined else _text(message.content)
    if not text and not cut:
        declined = declined or _no_text(text, reasoning, reason)
    details = body.usage.completion_tokens_details if body.usage else None
    hidden = (details.reasoning_tokens if details else 0) or 0
    return Completion(
        text=text or "",
        reasoning=reasoning,
        declined=declined,
        cut=cut and not declined,
        model=body.model or "",
        usage=body.usage.counted() if body.usage else None,
        thinks=bool(reasoning) or hidden > 0,
        positions=choice.positions(),
    )


def usage_of(body: Mapping[str, Any]) -> Usage:
    """The tokens that a completion reports; zeros if it reports none."""
    return _Usage.model_validate(body.get("usage") or {}).counted()


class _Message(BaseModel):
    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Top(BaseModel):
    token: str
    logprob: float


class _Position(_Top):
    top_logprobs: list[_Top] | None = None

    def position(self) -> Position:
        return Position(self.token, self.logprob, tuple((one.token, one.logprob) for one in self.top_logprobs or ()))


class _Logprobs(BaseModel):
    content: list[_Position] | None = None


class _Choice(BaseModel):
    message: _Message = _Message()
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None

    def positions(self) -> tuple[Position, ...]:
        found = self.logprobs.content if self.logprobs else None
        return tuple(one.position() for one in found or ())


class _Details(BaseModel):
    reasoning_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    completion_tokens_details: _Details | None = None

    def counted(self) -> Usage:
        return Usage(prompt_tokens=self.prompt_tokens or 0, completion_tokens=self.completion_tokens or 0)


class _Body(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    model: str | None = None
    usage: _Usage | None = None


def _text(content: str | Sequence[dict[str, Any]] | None) -> str | None:
    """The text of a message; lists of parts are joined."""
    if content is None or isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in content)


def _no_text(text: str | None, reasoning: str | None, reason: str) -> str | None:
    """Why a whole answer has no text; an answer that is an empty string is an answer."""
    if reasoning:
        return "the model reasoned but wrote no answer"
    if text is not None:
        return None
    return "an empty answer" if reason in ("", "stop") else f"an empty answer ({reason})"
