"""Merges several annotators' votes into one label. Pure.

Source: arXiv:2510.16888, Appendix B.4: three annotators see an item, and a label that two of them give is kept;
otherwise two more see it, and the commonest label is kept if at least 60 % of all five gave it. Other items are
discarded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TypeVar

Label = TypeVar("Label", bound=Hashable)

FIRST = 3
"""Annotators who see every item."""
QUORUM = 2
"""Number of them who must agree."""
MIN_SHARE = 0.6
"""Share of all annotators who must agree when the first ones did not."""


def agreed(votes: Sequence[Label]) -> Label | None:
    """The label of an item, or None to discard it.

    Args:
        votes: in the order the annotators were asked. With fewer than three, one vote is the label and two must be
            equal.

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
