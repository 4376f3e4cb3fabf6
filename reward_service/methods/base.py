"""What a scoring method is: two pure functions and a sampling spec; no I/O, no engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reward_service.types import Answer, Edit, Messages, SamplingSpec, Score

SCORE_LABELS = ("0", "1", "2", "3", "4", "5")
SCORE_VALUES = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)


@dataclass(frozen=True)
class Method:
    """A way to ask the judge and to read its answer."""

    name: str
    description: str
    """One sentence for GET /v1/methods."""
    build_messages: Callable[[Edit], Messages]
    parse: Callable[[Answer], Score]
    """Raises UnparsableAnswerError when the answer holds no score; never guesses one."""
    spec: SamplingSpec
    raw_score_min: float
    raw_score_max: float
    sampled: bool = False
    """Takes seed, temperature and num_passes."""
    reasoning: bool = False
    """Its scores carry reasoning text; its `spec.max_tokens` is set by the service's settings."""
