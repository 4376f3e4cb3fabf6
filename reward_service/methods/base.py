"""The definition of a scoring method: pure functions that ask about an edit or a group, and read. No I/O, no engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from edit_r1.reward_service.measures.base import Measure
from edit_r1.reward_service.types import Answer, Edit, Question, Score

SCORE_LABELS = ("0", "1", "2", "3", "4", "5")
SCORE_VALUES = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)

Ask = Callable[[Edit], tuple[Question, ...]]
Read = Callable[[Edit, Sequence[Answer]], Score]


@dataclass(frozen=True)
class GroupQuestion:
    """A question about several candidates of a group."""

    question: Question
    about: tuple[int, ...]
    """Positions of the candidates that it shows, in the order shown."""


AskGroup = Callable[[Sequence[Edit], int], tuple[GroupQuestion, ...]]
Combine = Callable[[Sequence[GroupQuestion], Sequence[Score]], Mapping[int, Score]]


class Templates(Protocol):
    """Base prompts by name, each with the place where its answer is read."""

    def __call__(self, name: str) -> str:
        """The text of a base prompt."""
        ...

    def answer_prefix(self, name: str) -> str:
        """The text that answers to this base prompt are forced to begin with; empty: none."""
        ...


@dataclass(frozen=True, kw_only=True)
class MethodTraits:
    """Properties that every method has."""

    relative: ClassVar[bool] = False
    """Whether its scores compare the candidates of a group, so that they depend on the others."""

    name: str
    description: str
    """One sentence for GET /v1/methods."""
    raw_score_min: float
    raw_score_max: float
    at_first_token: bool = False
    """Whether it reads the judge's first token, which thinking judges use for a thought."""
    answer_prefix: str = ""
    """Text that its answers are forced to begin with."""
    labels: tuple[str, ...] = ()
    """Labels whose distribution is read; each must be a single token of the judge. Empty: text is parsed."""
    parts: tuple[str, ...] = ()
    """Names of the sub-scores that its scores may have."""
    sampled: bool = False
    """Whether it takes seed, temperature and num_passes."""
    temperature: float = 0.0
    """Default temperature of its written answers."""
    reasoning: bool = False
    """Whether its scores include reasoning text; the service's settings limit the length of its answers."""
    needs_principles: bool = False
    """Whether its edits must have principles."""
    components: tuple[MethodTraits, ...] = ()
    """The methods that it combines."""

    @property
    def asks_judge(self) -> bool:
        """Whether it, or a component, asks the judge."""
        return not self.components or any(one.asks_judge for one in self.components)

    @property
    def reads_labels(self) -> bool:
        """Whether it, or a component, reads log-probabilities of labels."""
        return bool(self.labels) or any(one.reads_labels for one in self.components)

    @property
    def reads_first_token(self) -> bool:
        """Whether it, or a component, reads the judge's first token."""
        return self.at_first_token or any(one.reads_first_token for one in self.components)

    @property
    def begins_answers(self) -> bool:
        """Whether it, or a component, forces answers to begin with a text."""
        return bool(self.answer_prefix) or any(one.begins_answers for one in self.components)


@dataclass(frozen=True, kw_only=True)
class Method(MethodTraits):
    """A way to ask the judge about one edit and read its answers."""

    ask: Ask
    """An edit -> the questions for the judge; all questions about an edit are asked at once."""
    read: Read
    """An edit and the answers in the order of its questions -> its score. Raises UnparsableAnswerError if an answer
    contains no score; never guesses one."""
    max_tries: int = 1
    """Maximum number of attempts per edit, with different seeds, until its answers can be read."""
    published_at: str = ""
    """Where the questions are published that its models were trained on, if these are not built in."""
    measure: Measure | None = None
    """Computes the score without the judge; None: the judge is asked."""

    @property
    def asks_judge(self) -> bool:
        """Whether it, or a component, asks the judge."""
        return self.measure is None and super().asks_judge

    @property
    def measures(self) -> tuple[Method, ...]:
        """Itself or its components, as far as they are measures."""
        if self.measure is not None:
            return (self,)
        return tuple(found for one in self.components if isinstance(one, Method) for found in one.measures)


@dataclass(frozen=True, kw_only=True)
class GroupMethod(MethodTraits):
    """A way to compare the edits of a group; each question is answered with one token, and read alone."""

    relative: ClassVar[bool] = True

    ask: AskGroup
    """At least two edits of one brief, and a seed -> the questions about them."""
    parse: Callable[[Answer], Score]
    """One answer -> its result. Raises UnparsableAnswerError if it contains none; never guesses one."""
    combine: Combine
    """Questions with their results -> the score of each candidate in them, by its position."""


def first(parse: Callable[[Answer], Score]) -> Read:
    """The `read` function of a method with a single question."""

    def read(_edit: Edit, answers: Sequence[Answer]) -> Score:
        return parse(answers[0])

    return read
