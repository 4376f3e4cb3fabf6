"""Label log-probabilities from the most likely tokens that an API returns at each position. Pure.

A label's probability is the sum over its spellings among those tokens (`4`, ` 4`). Legend: L labels, T positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edit_r1.reward_service.engines.labels import comparable
from edit_r1.shared.chat.completions import Position

_BLANKS = str.maketrans({"\u0120": " ", "\u2581": " "})
"""Some servers return tokens as the vocabulary writes them, with marks in place of blanks."""


def label_logprobs(position: Position, labels: Sequence[str]) -> tuple[float, ...]:
    """[L] log-probabilities; -inf for a label without a spelling among the most likely tokens."""
    found: dict[str, list[float]] = {comparable(label): [] for label in labels}
    for token, logprob in _tokens(position).items():
        if (spelled := comparable(_readable(token))) in found:
            found[spelled].append(logprob)
    return tuple(_log_sum(found[comparable(label)]) for label in labels)


def uncovered_mass(position: Position) -> float:
    """Probability of all tokens that were not returned; a label's missing spellings share it."""
    return max(0.0, 1.0 - math.fsum(map(math.exp, _tokens(position).values())))


def pieces(positions: Sequence[Position], labels: Sequence[str]) -> tuple[str, ...]:
    """[T] texts of the tokens; the blank before a label moves to the token before it, so that the label is a piece."""
    found: list[str] = []
    for token in (_readable(one.token) for one in positions):
        label = token.strip(" ")
        if label in labels and found:
            unblanked = token.lstrip(" ")
            found[-1] += " " * (len(token) - len(unblanked))
            found.append(unblanked)
        else:
            found.append(token)
    return tuple(found)


def answer_positions(positions: Sequence[Position], text: str) -> tuple[Position, ...]:
    """The positions of the text itself; those of the thinking before it are left out. Empty if they do not match."""
    following = ""
    for index in reversed(range(len(positions))):
        following = _readable(positions[index].token) + following
        if text.strip() and following.lstrip().startswith(text.strip()):
            return tuple(positions[index:])
    return ()


def _tokens(position: Position) -> dict[str, float]:
    return dict(position.top) | {position.token: position.logprob}


def _readable(token: str) -> str:
    return token.translate(_BLANKS)


def _log_sum(logprobs: Sequence[float]) -> float:
    return math.log(total) if (total := math.fsum(map(math.exp, logprobs))) else -math.inf
