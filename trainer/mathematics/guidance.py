"""Classifier-free guidance: the velocity of the instruction, moved away from that of a negative prompt.

    v = v_neg + s (v_pos - v_neg),    and with `keeps_norm`    v |v_pos| / |v|

Equation 6 of arXiv:2207.12598 in diffusers' parametrisation, where s = 1 is no guidance. Norms are those of each token,
over the last dimension: Qwen-Image's pipelines rescale like this, FLUX's do not. Pure functions.
Legend: B rows; a latent is [B, ...], whatever layout the model family uses.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def guided(
    positive: Float[Tensor, " B *latent"], negative: Float[Tensor, " B *latent"], scale: float, *, keeps_norm: bool
) -> Float[Tensor, " B *latent"]:
    """The guided velocity. keeps_norm: whether each token is rescaled to the positive branch's norm."""
    combined = negative + scale * (positive - negative)
    if not keeps_norm:
        return combined
    norm, target = (torch.linalg.vector_norm(v, dim=-1, keepdim=True) for v in (combined, positive))
    # A token whose velocity is exactly 0 stays 0, instead of 0 / 0.
    rescaled: Tensor = combined * (target / norm.clamp_min(torch.finfo(norm.dtype).tiny))
    return rescaled
