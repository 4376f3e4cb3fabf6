"""What a scoring method is: two pure functions, questions out and answers in; no I/O, no engine."""

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
    """A way to ask the judge and to read its answers."""

    name: str
    description: str
    """One sentence for GET /v1/methods."""
    ask: Ask
    """An edit -> what the judge is asked about it; all questions of an edit are asked at once."""
    read: Read
    """An edit and the answers in the order of its questions -> its score. Raises UnparsableAnswerError when an answer
    holds no score; never guesses one."""
    raw_score_min: float
    raw_score_max: float
    labels: tuple[str, ...] = ()
    """Tokens whose distribution is read; each must be one token of the judge. Empty: text is parsed."""
    parts: tuple[str, ...] = ()
    """Names of the sub-scores that its scores may have."""
    sampled: bool = False
    """Takes seed, temperature and num_passes."""
    temperature: float = 0.0
    """Of its written answers when the request names none."""
    reasoning: bool = False
    """Its scores carry reasoning text; the length of its answers is set by the service's settings."""
    needs_principles: bool = False
    """Its edits must carry principles."""
    max_tries: int = 1
    """How often an edit is asked about, with other seeds, until its answers can be read."""


def first(parse: Callable[[Answer], Score]) -> Read:
    """How a method of one question reads its answers."""

    def read(_edit: Edit, answers: Sequence[Answer]) -> Score:
        return parse(answers[0])

    return read
