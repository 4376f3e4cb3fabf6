"""Flow-GRPO: a clipped policy gradient on the steps of a stochastic rollout.

Takes a step's mean and std under the trained policy, its log-probability under the policy that made it, and the
advantage; returns one policy and one KL term per row. The caller averages over the kept samples of the step.
Source: arXiv:2505.05470 Eq. 5, 9-11. Baseline of arXiv:2510.16888 Figure 7.
Deviation: log-probabilities are means over a latent's dimensions, not sums, as in the published implementation; clip
range and KL weight are chosen accordingly.
Legend: B rows, one (sample, step) each.
"""
# ruff: noqa: N815 - field names include their dimensions, as argument names do

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from edit_r1.trainer.mathematics.solvers import StochasticStep


@dataclass(frozen=True)
class GrpoTerms:
    """Per-row terms of the loss; the total is policy + kl_weight kl."""

    policy_B: Float[Tensor, " B"]
    kl_B: Float[Tensor, " B"]
    """KL(policy || reference) of the step; zero when no reference was given."""
    ratio_B: Float[Tensor, " B"]
    """p_theta / p_old of the step taken, detached: for logs."""
    clipped_B: Float[Tensor, " B"]
    """1 where the clipped branch was the larger loss and the gradient is zero, detached."""


def grpo_loss(
    x_next: Float[Tensor, " B *latent"],
    theta: StochasticStep,
    old_log_prob: Float[Tensor, " B"],
    reference: StochasticStep | None,
    advantage: Float[Tensor, " B"],
    *,
    clip_range: float,
) -> GrpoTerms:
    """Per-row Flow-GRPO terms, with ratio r = p_theta(x_next) / p_old(x_next):

    policy = max(-A r, -A clip(r, 1 - clip_range, 1 + clip_range)),   KL = mean((mean_theta - mean_ref)^2) / (2 std^2)
    """
    ratio = torch.exp(log_prob(x_next, theta) - old_log_prob)
    advantage = advantage.to(ratio.dtype)
    free, held = -advantage * ratio, -advantage * ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    kl = torch.zeros_like(ratio)
    if reference is not None:
        difference = (theta.mean - reference.mean).square().flatten(1).mean(1)
        kl = difference / (2.0 * theta.std.flatten().square())
    return GrpoTerms(torch.maximum(free, held), kl, ratio.detach(), (held > free).to(ratio.dtype).detach())


def log_prob(x_next: Float[Tensor, " B *latent"], step: StochasticStep) -> Float[Tensor, " B"]:
    """Mean over a latent's dimensions of log N(x_next; mean, std^2)."""
    scaled = (x_next - step.mean) / step.std
    constant = step.std.log() + 0.5 * torch.log(torch.tensor(2.0 * torch.pi))
    return (-0.5 * scaled.square() - constant).flatten(1).mean(1)
