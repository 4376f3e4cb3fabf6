"""Solvers from noise to data on a given grid: for the flow's ODE, and for an SDE with the same marginals.

They take a velocity function, noise and the model's own sigma grid, and return clean latents.
Pure: the grid, the noise and the model are arguments. Coefficients are computed in float64 (they contain differences of
logarithms near sigma = 1); the latents keep their own dtype.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from edit_r1.trainer.mathematics.flow import expand_time, predict_x0

VelocityFunction = Callable[[Tensor, Tensor], Tensor]
"""(x_t [B, ...], t [B] float32 in [0, 1]) -> velocity [B, ...]."""


@dataclass(frozen=True)
class StepCoefficients:
    """One solver step x <- x_weight x + data_weight (x0 + extrapolation (x0 - x0 of the previous step))."""

    x_weight: float
    data_weight: float
    extrapolation: float


def dpm_solver_2m(
    velocity: VelocityFunction, noise: Float[Tensor, " B *latent"], sigmas: Float[Tensor, " points"]
) -> Float[Tensor, " B *latent"]:
    """Second-order multistep DPM-Solver++ in data prediction (midpoint form), the rollout's solver.

    `sigmas` decreases from at most 1 to 0 over steps + 1 points. Source: arXiv:2211.01095 Algorithm 2.
    """
    x, previous_x0 = noise, None
    for step, coefficients in enumerate(dpm_solver_coefficients(sigmas)):
        t = torch.full((x.shape[0],), float(sigmas[step]), device=x.device)
        x0 = predict_x0(x, velocity(x, t), t)
        data = x0
        if previous_x0 is not None and coefficients.extrapolation != 0.0:
            data = x0 + coefficients.extrapolation * (x0 - previous_x0)
        x = coefficients.x_weight * x + coefficients.data_weight * data
        previous_x0 = x0
    return x


def euler(
    velocity: VelocityFunction, noise: Float[Tensor, " B *latent"], sigmas: Float[Tensor, " points"]
) -> Float[Tensor, " B *latent"]:
    """Euler's method x <- x + (sigma_next - sigma) v, the evaluation's solver."""
    x = noise
    grid = sigmas.double().tolist()
    for sigma, following in pairwise(grid):
        t = torch.full((x.shape[0],), sigma, device=x.device)
        x = x + (following - sigma) * velocity(x, t)
    return x


@dataclass(frozen=True)
class StochasticStep:
    """The normal distribution of the next point."""

    mean: Float[Tensor, " B *latent"]
    std: Float[Tensor, " B *ones"]


def stochastic_step(
    x: Float[Tensor, " B *latent"],
    velocity: Float[Tensor, " B *latent"],
    sigma: Float[Tensor, " B"],
    sigma_next: Float[Tensor, " B"],
    *,
    noise_level: float,
    largest: float,
) -> StochasticStep:
    """One step of the SDE with the flow's marginals. Source: arXiv:2505.05470 Eq. 9.

    s = noise_level sqrt(sigma / (1 - sigma)),  dt = sigma_next - sigma < 0
    mean = x + (v + s^2 / (2 sigma) (x + (1 - sigma) v)) dt,   std = s sqrt(-dt)
    At sigma = 1, where s is infinite, 1 - sigma is taken as 1 - `largest`, the grid's largest value below 1.
    """
    sigma, following = expand_time(sigma, x), expand_time(sigma_next, x)
    dt = following - sigma
    away = 1.0 - torch.where(sigma >= 1.0, torch.full_like(sigma, largest), sigma)
    s = noise_level * (sigma / away).sqrt()
    drift = velocity + s.square() / (2.0 * sigma) * (x + (1.0 - sigma) * velocity)
    return StochasticStep(mean=x + drift * dt, std=s * (-dt).sqrt())


def stochastic(
    velocity: VelocityFunction,
    noise: Float[Tensor, " B *latent"],
    sigmas: Float[Tensor, " points"],
    step_noise: Float[Tensor, "steps B *latent"],
    *,
    noise_level: float,
) -> Float[Tensor, "points B *latent"]:
    """Flow-GRPO's rollout: all points from noise to data. The last step follows the ODE, since noise there would be
    visible.

    step_noise: standard normal, one entry for each step except the last.
    """
    grid = sigmas.double().tolist()
    points, last = [noise], len(grid) - 2
    for i, (sigma, following) in enumerate(pairwise(grid)):
        x = points[-1]
        t, t_next = (torch.full((len(x),), value, device=x.device) for value in (sigma, following))
        v = velocity(x, t)
        if i == last:
            points.append(x + (following - sigma) * v)
        else:
            step = stochastic_step(x, v, t, t_next, noise_level=noise_level, largest=grid[1])
            points.append(step.mean + step.std * step_noise[i])
    return torch.stack(points)


def dpm_solver_coefficients(sigmas: Float[Tensor, " points"]) -> list[StepCoefficients]:
    """Coefficients of every step on the flow schedule: alpha = 1 - sigma, lambda = log(alpha / sigma).

    With h = lambda_next - lambda and r = h_previous / h:
        x_weight = sigma_next / sigma,  data_weight = alpha_next (1 - e^-h),  extrapolation = 1 / (2 r).
    The step from sigma = 1 (lambda = -inf), the one after it (no finite previous lambda) and the last one are first
    order, with extrapolation 0. Raises ValueError unless the grid decreases strictly from at most 1 to 0.
    """
    grid = sigmas.double().tolist()
    _check_grid(grid)
    lambdas = [_log_snr(sigma) for sigma in grid]
    last = len(grid) - 2
    steps = []
    for i in range(last + 1):
        alpha_next = 1.0 - grid[i + 1]
        # e^-h, computed without lambda, which is infinite at both ends of the grid.
        decay = (grid[i + 1] / alpha_next) * ((1.0 - grid[i]) / grid[i])
        second_order = 0 < i < last and math.isfinite(lambdas[i - 1])
        ratio = (lambdas[i + 1] - lambdas[i]) / (lambdas[i] - lambdas[i - 1]) if second_order else 0.0
        steps.append(StepCoefficients(grid[i + 1] / grid[i], alpha_next * (1.0 - decay), ratio / 2.0))
    return steps


def _log_snr(sigma: float) -> float:
    if sigma >= 1.0:
        return -math.inf
    return math.inf if sigma <= 0.0 else math.log1p(-sigma) - math.log(sigma)


def _check_grid(grid: list[float]) -> None:
    falls = all(a > b for a, b in pairwise(grid))
    if len(grid) < 2 or grid[0] > 1.0 or grid[-1] != 0.0 or not falls:
        raise ValueError(f"sigmas must decrease strictly from at most 1 to exactly 0, got {grid}")
