"""The values passed through one scoring request, from an edit to its score.

    Edit -> (method) Questions -> (engine) Answers -> (method) Score

All are frozen and independent of HTTP, engines and torch. Legend: L labels, T generated positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image

from edit_r1.shared.errors import MeasureError
from edit_r1.shared.schemas import Category


@dataclass(frozen=True)
class JudgeImage:
    """One decoded image in a conversation; equal `digest` means equal pixels, so engines may cache by it."""

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
    """One thing to check about an edit, as a question that a good edit answers with yes."""

    question: str
    category: Category
    weight: float = 1.0


@dataclass(frozen=True)
class Brief:
    """The editing task, the same for all candidates of a group."""

    instruction: str
    requirement: str
    """The task prompt: what this type of edit must respect; the text `None` if there is nothing to add."""
    task: str
    """The normalised task type; `default` if the client names none."""
    sources: tuple[JudgeImage, ...]
    mask: JudgeImage | None = None
    """Where the first source may change, for measures: white may, black must not; None: the client sent none."""
    expected_text: str | None = None
    """The text that the edited image must show, for measures; None: only the instruction says so."""


@dataclass(frozen=True)
class Edit:
    """One candidate with everything the judge may see."""

    brief: Brief
    candidate: JudgeImage
    principles: tuple[Principle, ...] = ()
    """Principles for verifiers; empty for other methods."""
    measured: Mapping[str, Score | MeasureError] = field(default_factory=dict)
    """Results of the measures that the method reads, by name."""


@dataclass(frozen=True)
class SamplingSpec:
    """Sampling options and requested outputs of an answer."""

    max_tokens: int = 1
    temperature: float = 0.0
    """0: greedy decoding."""
    seed: int = 0
    """Seed of sampling; equal messages with equal seeds get equal answers."""
    labels: tuple[str, ...] = ()
    """Single tokens whose log-probabilities are returned at every position; empty: none."""
    score_marker: str | None = None
    """Text that must be followed by a label. It is appended to an answer that does not contain it."""
    top_p: float = 1.0
    """Sampling keeps the most likely tokens up to this total probability; 1: all."""
    top_k: int = 0
    """Sampling keeps this many of the most likely tokens; 0: all."""
    adapter: str | None = None
    """Name of the LoRA adapter to use; None: the base model."""
    prefix_ids: tuple[int, ...] = ()
    """Token ids that the answer is forced to begin with; they are not part of the `Answer`."""


@dataclass(frozen=True)
class Question:
    """One conversation and how it must be answered."""

    messages: Messages
    spec: SamplingSpec
    answer_prefix: str = ""
    """Text that the answer is forced to begin with, so that the judge's first own token is the score."""


@dataclass(frozen=True)
class Answer:
    """An engine's answer to a conversation."""

    text: str
    """Text without special tokens."""
    token_ids: tuple[int, ...]
    """[T], including the end token if there is one."""
    pieces: tuple[str, ...]
    """[T], the text of each token on its own."""
    label_logprobs: tuple[tuple[float, ...], ...] = ()
    """[T, L], log-probabilities of `SamplingSpec.labels` in the full vocabulary, from the model's own logits (no
    temperature), at the position where token t was sampled; empty if no labels were requested."""
    finished: bool = True
    """False: cut off at `max_tokens`."""
    closed: bool = False
    """True: the service appended the score marker, and the last position is the score."""
    queue_seconds: float = 0.0
    """Time waited before the engine took it."""
    uncovered: tuple[float, ...] = ()
    """[T], probability of all tokens that an API did not return; a label among them has log-probability -inf here.
    Empty: `label_logprobs` are exact."""
    thinking: str | None = None
    """The judge's thinking, which precedes the text."""
    num_thought_tokens: int = 0
    """Number of tokens of thinking that are not among `token_ids`."""
    num_reported: int | None = None
    """Number of tokens by an API's own count; its answers have no `token_ids`."""

    @property
    def num_tokens(self) -> int:
        """Number of tokens written."""
        return len(self.token_ids) + self.num_thought_tokens if self.num_reported is None else self.num_reported


@dataclass(frozen=True)
class Score:
    """The result a method reads from its answers."""

    raw_score: float
    """Score on the method's own scale."""
    distribution: dict[str, float] | None = None
    """Softmax over the labels; None if the score was parsed from text."""
    score_mass: float | None = None
    """Total probability of the labels in the full vocabulary; the minimum over several questions."""
    reasoning: str | None = None
    parts: dict[str, float] = field(default_factory=dict)
    """Named sub-scores in [0, 1], for methods that have them; `composite` can use them."""
    details: dict[str, Any] = field(default_factory=dict)
