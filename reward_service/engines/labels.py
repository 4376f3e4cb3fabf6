"""The tokens that spell a label: `4`, ` 4`; `Yes`, ` Yes`, `yes`. Their probabilities are added up.

A judge that begins its answer with a blank, or in lower case, gives the same verdict with another token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_MAX_EXTRA_CHARACTERS = 3
"""Maximum number of characters by which a vocabulary's entry may be longer than the label: its marks for blanks."""


@dataclass(frozen=True)
class LabelTokens:
    """The single tokens that spell some labels."""

    spellings: tuple[tuple[int, ...], ...]
    """Token ids of each label; the label's own encoding comes first."""

    @property
    def ids(self) -> tuple[int, ...]:
        """[I], the ids of all labels one after the other."""
        return tuple(token for ids in self.spellings for token in ids)

    def sums(self, logprobs: Sequence[float]) -> tuple[float, ...]:
        """[I] log-probabilities of `ids` -> [L] of the labels: log sum exp over each label's spellings."""
        found, start = [], 0
        for ids in self.spellings:
            found.append(_log_sum_exp(logprobs[start : start + len(ids)]))
            start += len(ids)
        return tuple(found)


def comparable(text: str) -> str:
    """A token's text or a label in the form in which both are compared: without blanks, and words in one case.

    A single letter keeps its case: `a` is a word of its own, and no vote for `A`.
    """
    bare = text.strip()
    return bare.casefold() if len(bare) > 1 else bare


def spellings(label: str, own: int, vocabulary: Mapping[str, int], decode: Callable[[int], str]) -> tuple[int, ...]:
    """Ids of all tokens whose text is the label, apart from blanks around it and the case of words.

    Args:
        label: the label's text.
        own: id of the label's own encoding.
        vocabulary: the tokenizer's entries, in its own notation, with their ids.
        decode: text of one id.

    """
    near = (
        token
        for entry, token in vocabulary.items()
        if label.casefold() in entry.casefold() and len(entry) <= len(label) + _MAX_EXTRA_CHARACTERS
    )
    found = sorted(token for token in near if comparable(decode(token)) == comparable(label))
    return tuple(dict.fromkeys([own, *found]))


def _log_sum_exp(values: Sequence[float]) -> float:
    largest = max(values)
    if math.isinf(largest) or any(math.isnan(value) for value in values):
        return math.nan if any(math.isnan(value) for value in values) else largest
    return largest + math.log(math.fsum(math.exp(value - largest) for value in values))
