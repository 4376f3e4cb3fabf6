"""One label from several annotators. Pure.

Source: arXiv:2510.16888, Appendix B.4: three annotators see an item, and what two of them say is its label; else two
more see it, and the commonest label holds when at least 60 % of all five gave it. Other items are discarded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TypeVar

Label = TypeVar("Label", bound=Hashable)

FIRST = 3
"""Annotators that see every item."""
QUORUM = 2
"""Of them that have to agree."""
MIN_SHARE = 0.6
"""Of all annotators, where the first did not agree."""


def agreed(votes: Sequence[Label]) -> Label | None:
    """The label of an item, None when it is to be discarded.

    Args:
        votes: in the order in which they were asked for. Fewer than three are taken as they are: one vote is the
            label, two must be equal.

    """
    if not votes:
        return None
    first = Counter(votes[:FIRST]).most_common(1)[0]
    if first[1] >= min(QUORUM, len(votes)):
        return first[0]
    if len(votes) <= FIRST:
        return None
    label, count = Counter(votes).most_common(1)[0]
    return label if count >= MIN_SHARE * len(votes) else None
