"""Group-contrastive preference: sampled verdicts about two edits, compared across. Pure.

Legend: N chains an edit, T tokens of a chain (padded).
Source: arXiv:2604.27505, the GCPO objective. Deviation: its KL term is left out, as the paper's formula does; a chain
that cannot be read loses every comparison.
"""

from __future__ import annotations

import torch
from torch import Tensor

UNREADABLE = float("-inf")
"""Verdict sum of a chain that decides nothing."""


def win_ratios(preferred: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor]:
    """How often each chain puts the edits in the right order, against every chain of the other edit.

    r_j^w = (1/N) sum_k 1[tau_j^w > tau_k^l];  r_j^l = (1/N) sum_k 1[tau_j^l < tau_k^w]; equal sums earn nothing.

    Args:
        preferred: [N], verdict sums tau of the chains about one edit; UNREADABLE where there is none.
        rejected: [N], of those about the other.

    """
    order = (preferred[:, None] > rejected[None, :]).float()
    # A chain about the rejected edit that cannot be read has not said that the edit is bad.
    readable = (rejected > UNREADABLE).float()
    return (order * readable[None, :]).mean(1), order.mean(0) * readable


def contrastive_advantages(preferred: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor]:
    """A = r - mean of r over the chains about the same edit; not divided by a deviation. All [N]."""
    won, lost = win_ratios(preferred, rejected)
    return won - won.mean(), lost - lost.mean()


def clipped_surrogate(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Mean over chains of the mean over a chain's tokens of min(ratio A, clip(ratio, 1 - clip, 1 + clip) A), negated.

    Args:
        logprobs: [N, T], of the tokens drawn, now.
        old_logprobs: [N, T], when they were drawn.
        mask: [N, T], 1 where there is a token; every chain has one.
        advantages: [N].
        clip: how far the ratio may move.

    """
    ratio = torch.exp(logprobs - old_logprobs)
    gain = torch.minimum(ratio * advantages[:, None], ratio.clamp(1 - clip, 1 + clip) * advantages[:, None])
    return -((gain * mask).sum(1) / mask.sum(1)).mean()
