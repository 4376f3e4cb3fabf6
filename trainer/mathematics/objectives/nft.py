"""DiffusionNFT: a policy loss on the forward process, weighted by the sample's optimality.

Takes three velocities at the same x_t (trained policy, old policy, reference), the path and the optimality; returns one
policy and one KL term per row. The caller averages over the kept samples of the step.
Source: arXiv:2510.16888 Eq. 4-6 (after arXiv:2509.16117).
Deviation: the default loss (`adaptive`) is Eq. 4 in x0 space with self-normalised weights, as in every published
implementation; `velocity` is Eq. 4 exactly as written.
Legend: B rows, one (sample, timestep) each.
"""
# ruff: noqa: N815 - field names include their dimensions, as argument names do

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from edit_r1.trainer.mathematics.flow import predict_x0, velocity_of_path

Weighting = Literal["adaptive", "velocity"]
WEIGHT_FLOOR = 1e-5


@dataclass(frozen=True)
class NftTerms:
    """Per-row terms of the loss; the total is policy + kl_weight kl."""

    policy_B: Float[Tensor, " B"]
    kl_B: Float[Tensor, " B"]
    """mean((v_theta - v_ref)^2); zero when no reference velocity was given."""
    positive_B: Float[Tensor, " B"]
    """The positive branch L+, detached: for logs."""
    negative_B: Float[Tensor, " B"]
    """The negative branch L-, detached: for logs."""


def nft_loss(  # noqa: PLR0917 - the formula's arguments
    v_theta: Float[Tensor, " B *latent"],
    v_old: Float[Tensor, " B *latent"],
    v_ref: Float[Tensor, " B *latent"] | None,
    x_t: Float[Tensor, " B *latent"],
    x0: Float[Tensor, " B *latent"],
    t: Float[Tensor, " B"],
    optimality: Float[Tensor, " B"],
    *,
    nft_beta: float = 1.0,
    adv_clip: float = 5.0,
    weighting: Weighting = "adaptive",
) -> NftTerms:
    """Per-row DiffusionNFT terms.

    adaptive: adv_clip (rho L+ + (1 - rho) L-) / beta,  L = mean((x0_hat - x0)^2 / w),  w = max(mean|x0_hat - x0|, 1e-5)
    velocity: rho mean|v+ - v|^2 + (1 - rho) mean|v- - v|^2                                                    (Eq. 4)
    """
    v_pos = (1.0 - nft_beta) * v_old + nft_beta * v_theta  # Eq. 5
    v_neg = (1.0 + nft_beta) * v_old - nft_beta * v_theta  # Eq. 6
    if weighting == "adaptive":
        positive = _self_normalised_error(predict_x0(x_t, v_pos, t), x0)
        negative = _self_normalised_error(predict_x0(x_t, v_neg, t), x0)
        scale = adv_clip / nft_beta
    else:
        v = velocity_of_path(x_t, x0, t)
        positive, negative, scale = _mean_square(v_pos - v), _mean_square(v_neg - v), 1.0
    rho = optimality.to(positive.dtype)
    kl = torch.zeros_like(positive) if v_ref is None else _mean_square(v_theta - v_ref)
    return NftTerms(
        policy_B=scale * (rho * positive + (1.0 - rho) * negative),
        kl_B=kl,
        positive_B=positive.detach(),
        negative_B=negative.detach(),
    )


def _self_normalised_error(x0_hat: Tensor, x0: Tensor) -> Tensor:
    error = x0_hat - x0
    # The weight is a tiny mean of absolute differences: float64 keeps it exact where bf16 velocities nearly agree.
    weight = error.detach().double().abs().flatten(1).mean(1).clamp(min=WEIGHT_FLOOR)
    return error.square().flatten(1).mean(1) / weight.to(error.dtype)


def _mean_square(x: Tensor) -> Tensor:
    return x.square().flatten(1).mean(1)
