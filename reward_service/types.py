"""The values that walk through one scoring request, from an edit to its score.

    Edit -> (method) Questions -> (engine) Answers -> (method) Score

All are frozen and know nothing of HTTP, engines or torch. Legend: L labels, T generated positions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image

from edit_r1.shared.schemas import Category


@dataclass(frozen=True)
class JudgeImage:
    """One decoded picture in a conversation; equal `digest` means equal pixels, so engines may cache by it."""

    pixels: Image.Image = field(repr=False, compare=False)
    digest: str


@dataclass(frozen=True)
class Message:
    """One turn: text and images in the order the judge reads them."""

    role: Literal["system", "user", "assistant"]
    content: tuple[str | JudgeImage, ...]


Messages = tuple[Message, ...]


@dataclass(frozen=True)
class Principle:
    """One thing to check about an edit, as a question whose good answer is yes."""

    question: str
    category: Category
    weight: float = 1.0


@dataclass(frozen=True)
class Brief:
    """What an editor was asked to do: the same for all candidates of a group."""

    instruction: str
    requirement: str
    """The task prompt: what this type of edit must respect; the text `None` when there is nothing to add."""
    task: str
    """The edit's type in its one spelling; `default` when the client names none."""
    sources: tuple[JudgeImage, ...]


@dataclass(frozen=True)
class Edit:
    """One candidate with everything the judge may look at."""

    brief: Brief
    candidate: JudgeImage
    principles: tuple[Principle, ...] = ()
    """What verifiers check; empty for other methods."""


@dataclass(frozen=True)
class SamplingSpec:
    """How an engine must answer."""

    max_tokens: int = 1
    temperature: float = 0.0
    """0: always the likeliest token."""
    seed: int = 0
    """Of the sampling; the same messages with the same seed get the same answer."""
    labels: tuple[str, ...] = ()
    """Single tokens whose log-probabilities are wanted at every position; empty: none."""
    score_marker: str | None = None
    """Text after which the answer must name a label. An answer that never gets there is closed with it."""
    top_p: float = 1.0
    """Sampling keeps the likeliest tokens up to this probability; 1: all."""
    top_k: int = 0
    """Sampling keeps this many of the likeliest tokens; 0: all."""
    adapter: str | None = None
    """Name of the engine's LoRA adapter that answers; None: the base model."""
    prefix_ids: tuple[int, ...] = ()
    """Token ids with which the answer is made to begin; they are not part of the `Answer`."""


@dataclass(frozen=True)
class Question:
    """One conversation and how it must be answered."""

    messages: Messages
    spec: SamplingSpec


@dataclass(frozen=True)
class Answer:
    """What an engine generated."""

    text: str
    """Without special tokens."""
    token_ids: tuple[int, ...]
    """[T], the closing special token included when there is one."""
    pieces: tuple[str, ...]
    """[T], the text of each token on its own."""
    label_logprobs: tuple[tuple[float, ...], ...] = ()
    """[T, L], log-probabilities of `SamplingSpec.labels` in the full vocabulary, from the model's own logits (no
    temperature), at the position where token t was drawn; empty when no labels were asked for."""
    finished: bool = True
    """False: cut off at `max_tokens`."""
    closed: bool = False
    """True: the score marker was put in by the service; the last position is where the score stands."""
    queue_seconds: float = 0.0
    """Wait before the engine took it up."""


@dataclass(frozen=True)
class Score:
    """What a method reads out of its answers."""

    raw_score: float
    """On the method's own scale."""
    distribution: dict[str, float] | None = None
    """Softmax over the labels; None when the score was parsed from text."""
    score_mass: float | None = None
    """Probability of all labels together in the full vocabulary; the least of several questions."""
    reasoning: str | None = None
    parts: dict[str, float] = field(default_factory=dict)
    """Named sub-scores in [0, 1], for methods that have them; `composite` can weigh them."""
    details: dict[str, Any] = field(default_factory=dict)
