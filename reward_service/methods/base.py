"""The definition of a scoring method: two pure functions, one that asks and one that reads. No I/O, no engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edit_r1.reward_service.measures.base import Measure
from edit_r1.reward_service.types import Answer, Edit, Question, Score

SCORE_LABELS = ("0", "1", "2", "3", "4", "5")
SCORE_VALUES = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)

Ask = Callable[[Edit], tuple[Question, ...]]
Read = Callable[[Edit, Sequence[Answer]], Score]


class Templates(Protocol):
    """Base prompts by name, each with the place where its answer is read."""

    def __call__(self, name: str) -> str:
        """The text of a base prompt."""
        ...

    def answer_prefix(self, name: str) -> str:
        """The text that answers to this base prompt are forced to begin with; empty: none."""
        ...


@dataclass(frozen=True)
class Method:
    """A way to ask the judge and read its answers."""

    name: str
    description: str
    """One sentence for GET /v1/methods."""
    ask: Ask
    """An edit -> the questions for the judge; all questions about an edit are asked at once."""
    read: Read
    """An edit and the answers in the order of its questions -> its score. Raises UnparsableAnswerError if an answer
    contains no score; never guesses one."""
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
    max_tries: int = 1
    """Maximum number of attempts per edit, with different seeds, until its answers can be read."""
    components: tuple[Method, ...] = ()
    """The methods that it combines."""
    measure: Measure | None = None
    """Computes the score without the judge; None: the judge is asked."""

    @property
    def measures(self) -> tuple[Method, ...]:
        """Itself or its components, as far as they are measures."""
        return (self,) if self.measure else tuple(found for one in self.components for found in one.measures)

    @property
    def asks_judge(self) -> bool:
        """Whether it, or a component, asks the judge."""
        return self.measure is None and (not self.components or any(one.asks_judge for one in self.components))

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


def first(parse: Callable[[Answer], Score]) -> Read:
    """The `read` function of a method with a single question."""

    def read(_edit: Edit, answers: Sequence[Answer]) -> Score:
        return parse(answers[0])

    return read
