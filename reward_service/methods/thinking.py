"""Where the thoughts of a thinking judge end, in prompts and in answers. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

MARKERS = {"<think>": "</think>", "[THINK]": "[/THINK]", "<seed:think>": "</seed:think>", "◁think▷": "◁/think▷"}
"""Beginning of a judge's thoughts -> their end, in the notations of several families."""


def left_open(prompt: str) -> str | None:
    """The end marker of thoughts that a prompt begins but does not end; None if the answer follows it directly."""
    for begins, ends in MARKERS.items():
        _, found, rest = prompt.rpartition(begins)
        if found and ends not in rest:
            return ends
    return None


@dataclass(frozen=True)
class Thoughts:
    """The thoughts at the beginning of an answer."""

    num_tokens: int
    """Number of tokens up to their end."""
    missing_end: str = ""
    """Their end marker if the answer was cut before it; then all tokens are thoughts."""


def find_thoughts(pieces: Sequence[str], awaited: str | None) -> Thoughts:
    """The thoughts in an answer.

    Args:
        pieces: text of each token.
        awaited: the end marker of thoughts that the prompt has begun.

    """
    text = "".join(pieces)
    begun = next((ends for begins, ends in MARKERS.items() if text.lstrip().startswith(begins)), None)
    marker = awaited or begun
    if marker is None:
        return Thoughts(0)
    found = text.rfind(marker)
    if found < 0:
        return Thoughts(len(pieces), marker)
    lengths = itertools.accumulate(len(piece) for piece in pieces)
    return Thoughts(next(i + 1 for i, end in enumerate(lengths) if end >= found + len(marker)))
