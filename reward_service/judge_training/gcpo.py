"""Group-contrastive preference optimization: compares sampled verdicts about two edits with each other. Pure.

Legend: N chains per edit, T tokens of a chain (padded).
Source: arXiv:2604.27505, the GCPO objective. Deviation: there is no KL term, as in the paper's formula; a chain that
cannot be parsed loses every comparison.
"""

from __future__ import annotations

import torch
from torch import Tensor

UNREADABLE = float("-inf")
"""Verdict sum of a chain without readable verdicts."""


def win_ratios(preferred: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor]:
    """How often each chain orders the two edits correctly, over all chains about the other edit.

    r_j^w = (1/N) sum_k 1[tau_j^w > tau_k^l];  r_j^l = (1/N) sum_k 1[tau_j^l < tau_k^w]; equal sums earn nothing.

    Args:
        preferred: [N], verdict sums tau of the chains about the preferred edit; UNREADABLE where there is none.
        rejected: [N], the same for the rejected edit.

    """
    order = (preferred[:, None] > rejected[None, :]).float()
    # An unreadable chain about the rejected edit does not mean that the edit is bad.
    readable = (rejected > UNREADABLE).float()
    return (order * readable[None, :]).mean(1), order.mean(0) * readable


def contrastive_advantages(preferred: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor]:
    """A = r - mean of r over the chains about the same edit; not divided by the standard deviation. All [N]."""
    won, lost = win_ratios(preferred, rejected)
    return won - won.mean(), lost - lost.mean()


def clipped_surrogate(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Mean over chains of the mean over a chain's tokens of min(ratio A, clip(ratio, 1 - clip, 1 + clip) A), negated.

    Args:
        logprobs: [N, T], current log-probabilities of the sampled tokens.
        old_logprobs: [N, T], their log-probabilities when sampled.
        mask: [N, T], 1 where there is a token; every chain has at least one.
        advantages: [N].
        clip: maximum change of the ratio.

    """
    ratio = torch.exp(logprobs - old_logprobs)
    gain = torch.minimum(ratio * advantages[:, None], ratio.clamp(1 - clip, 1 + clip) * advantages[:, None])
    return -((gain * mask).sum(1) / mask.sum(1)).mean()
