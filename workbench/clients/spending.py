"""Tokens and money that a command over a chat endpoint will use, and has used.

Takes the sizes of the questions before they are asked, and the endpoint's own counts afterwards. The estimate of a
prompt is a rule of thumb (characters, pixels); that of the answers is their limit, so an upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from edit_r1.shared.chat.completions import Usage

_CHARACTERS_PER_TOKEN = 4
_PIXELS_PER_TOKEN = 750

PriceIn = Annotated[
    float | None, typer.Option(min=0, help="Price of a million prompt tokens, to print the cost; in any currency.")
]
PriceOut = Annotated[float | None, typer.Option(min=0, help="Price of a million answer tokens, like --price-in.")]


@dataclass(frozen=True)
class Prices:
    """Prices of a million tokens; None when not given."""

    prompt: float | None = None
    completion: float | None = None

    def cost(self, usage: Usage) -> float | None:
        """Cost of some tokens; None without prices. A price that is not given counts as 0."""
        if self.prompt is None and self.completion is None:
            return None
        total = usage.prompt_tokens * (self.prompt or 0.0) + usage.completion_tokens * (self.completion or 0.0)
        return total / 1e6


@dataclass(frozen=True)
class QuestionSize:
    """What a question's number of tokens depends on."""

    num_characters: int
    pixels: tuple[int, ...]
    """Pixels of each image, as sent."""

    def num_tokens(self) -> int:
        """About as many prompt tokens."""
        images = sum(math.ceil(pixels / _PIXELS_PER_TOKEN) for pixels in self.pixels)
        return math.ceil(self.num_characters / _CHARACTERS_PER_TOKEN) + images


def estimate(sizes: Sequence[QuestionSize], num_requests: int, max_tokens: int) -> Usage:
    """Tokens of `num_requests` like the given ones, with answers of `max_tokens`."""
    if not sizes:
        return Usage()
    mean = sum(size.num_tokens() for size in sizes) / len(sizes)
    return Usage(prompt_tokens=round(mean * num_requests), completion_tokens=max_tokens * num_requests)


def total(usages: Iterable[Usage | None]) -> Usage:
    """The sum of the counts that were reported."""
    found = Usage()
    for usage in usages:
        found = found if usage is None else found.plus(usage)
    return found


def before(num_requests: int, expected: Usage, prices: Prices) -> str:
    """The line to print before the requests."""
    return (
        f"{num_requests:,} requests: about {expected.prompt_tokens:,} prompt tokens and at most "
        f"{expected.completion_tokens:,} answer tokens{_price(', at most', prices.cost(expected))}"
    )


def after(used: Usage, prices: Prices) -> str:
    """The line to print after the requests."""
    return (
        f"used {used.prompt_tokens:,} prompt tokens and {used.completion_tokens:,} answer tokens"
        f"{_price(', cost', prices.cost(used))}"
    )


def _price(words: str, cost: float | None) -> str:
    return "" if cost is None else f"{words} {cost:.2f} at the given prices"
