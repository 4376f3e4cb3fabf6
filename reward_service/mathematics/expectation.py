"""Label log-probabilities -> score, distribution, mass. Pure.

Legend: L labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edit_r1.shared.errors import UnparsableAnswerError


@dataclass(frozen=True)
class Expectation:
    """The judge's score distribution at one position."""

    value: float
    """Expected label value."""
    probabilities: tuple[float, ...]
    """[L], softmax over the labels only; sums to 1."""
    mass: float
    """Total probability of the labels in the full vocabulary, in (0, 1]."""


def expectation(label_logprobs: Sequence[float], values: Sequence[float]) -> Expectation:
    """Expected value under the softmax over the label tokens.

        p_i = exp(l_i) / sum_j exp(l_j);  value = sum_i w_i p_i;  mass = sum_j exp(l_j)

    Source: arXiv:2510.16888 Eq. 10.

    Args:
        label_logprobs: [L], log-probabilities in the full vocabulary.
        values: [L], the number w_i that each label represents.

    Raises:
        UnparsableAnswerError: a log-probability is NaN, or all are -inf: the judge gave no score.

    """
    if len(label_logprobs) != len(values):
        raise ValueError(f"{len(label_logprobs)} log-probabilities for {len(values)} labels")
    largest = max(label_logprobs)
    if math.isinf(largest) or any(math.isnan(logprob) for logprob in label_logprobs):
        raise UnparsableAnswerError(f"the judge gave no usable label probabilities: {list(label_logprobs)}")
    weights = [math.exp(logprob - largest) for logprob in label_logprobs]
    total = math.fsum(weights)
    probabilities = tuple(weight / total for weight in weights)
    value = math.fsum(p * w for p, w in zip(probabilities, values, strict=True))
    # Rounding may push the sum of probabilities above 1 by a float32 ulp or two.
    return Expectation(value, probabilities, min(1.0, math.exp(largest) * total))


def normalise(raw_score: float, lowest: float, highest: float) -> float:
    """A raw score scaled to [0, 1]: (s - min) / (max - min), paper Eq. 11; clamped against rounding."""
    return min(1.0, max(0.0, (raw_score - lowest) / (highest - lowest)))
