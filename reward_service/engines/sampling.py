"""Token sampling of the transformers engine: each row with its own seed, recording label log-probabilities.

A logits processor for `generate`: its output has one finite entry per row, so that greedy decoding picks it.
Legend: B rows, V vocabulary, L label ids of the whole batch, T generated positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from edit_r1.reward_service.types import SamplingSpec


class SeededSampler(LogitsProcessor):  # type: ignore[misc]
    """Draws each row's token from its own random stream, so that no row depends on the others."""

    def __init__(self, specs: Sequence[SamplingSpec], label_ids: torch.Tensor) -> None:
        self._specs = specs
        self._label_ids = label_ids
        self._streams = [torch.Generator().manual_seed(spec.seed) for spec in specs]
        self._logprobs: list[torch.Tensor] = []

    def __call__(self, _input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """[B, V] logits -> [B, V] with 0 at the drawn token and -inf elsewhere."""
        tokens = self.draw(scores)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens[:, None], 0.0)

    def draw(self, logits: torch.Tensor) -> torch.Tensor:
        """[B] tokens for [B, V] logits; records the label log-probabilities of this position."""
        # float32: bfloat16 log-probabilities would be rounded to three digits.
        logits = logits.float()
        if self._label_ids.numel():
            normaliser = logits.logsumexp(-1, keepdim=True)
            self._logprobs.append((logits[:, self._label_ids] - normaliser).cpu())
        tokens = logits.argmax(-1)
        for row, spec in enumerate(self._specs):
            if spec.temperature > 0:
                tokens[row] = self._draw_row(logits[row], spec, self._streams[row])
        return tokens

    def label_logprobs(self) -> torch.Tensor:
        """[B, T, L] label log-probabilities recorded so far."""
        return torch.stack(self._logprobs, dim=1)

    @staticmethod
    def _draw_row(logits: torch.Tensor, spec: SamplingSpec, stream: torch.Generator) -> torch.Tensor:
        """Inverse transform sampling with one uniform number per token, drawn on the CPU: the same on every device."""
        cumulative = _nucleus(logits.double() / spec.temperature, spec).cumsum(-1)
        uniform = torch.rand((), dtype=torch.float64, generator=stream).to(logits.device)
        return torch.searchsorted(cumulative, uniform * cumulative[-1], right=True).clamp(max=len(logits) - 1)


def _nucleus(logits: torch.Tensor, spec: SamplingSpec) -> torch.Tensor:
    """[V] probabilities of the tokens kept by top_k and top_p, 0 for the others; not renormalised."""
    if spec.top_k:
        least = logits.topk(min(spec.top_k, len(logits))).values[-1]
        logits = logits.masked_fill(logits < least, -torch.inf)
    probabilities = logits.softmax(-1)
    if spec.top_p < 1:
        ordered, order = probabilities.sort(descending=True)
        # The token that reaches top_p is still kept.
        dropped = order[ordered.cumsum(-1) - ordered >= spec.top_p]
        probabilities[dropped] = 0.0
    return probabilities
