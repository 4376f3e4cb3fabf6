"""The definition of a scoring method: two pure functions, one that asks and one that reads. No I/O, no engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edit_r1.reward_service.types import Answer, Edit, Question, Score

SCORE_LABELS = ("0", "1", "2", "3", "4", "5")
SCORE_VALUES = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)

Ask = Callable[[Edit], tuple[Question, ...]]
Read = Callable[[Edit, Sequence[Answer]], Score]
Templates = Callable[[str], str]
"""Name of a base prompt -> its text."""


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

    @property
    def reads_labels(self) -> bool:
        """Whether it, or a component, reads log-probabilities of labels."""
        return bool(self.labels) or any(one.reads_labels for one in self.components)


def first(parse: Callable[[Answer], Score]) -> Read:
    """The `read` function of a method with a single question."""

    def read(_edit: Edit, answers: Sequence[Answer]) -> Score:
        return parse(answers[0])

    return read
