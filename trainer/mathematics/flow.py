"""The rectified flow between data and noise: points on it, velocities, and the data a velocity points at.

Pure functions on latents, noise and times; every formula of the path is defined here once.

x_t = (1 - t) x0 + t noise,  v = dx_t/dt = noise - x0,  x0 = x_t - t v,  t in [0, 1].
Legend: B batch; a latent is [B, ...], whatever layout the model family uses.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def expand_time(t: Float[Tensor, " B"], like: Float[Tensor, " B *latent"]) -> Float[Tensor, " B *ones"]:
    """`t` with trailing dimensions of size one, so that it multiplies latents."""
    return t.reshape(-1, *[1] * (like.ndim - 1))


def interpolate(
    x0: Float[Tensor, " B *latent"], noise: Float[Tensor, " B *latent"], t: Float[Tensor, " B"]
) -> Float[Tensor, " B *latent"]:
    """The point x_t = (1 - t) x0 + t noise."""
    return torch.lerp(x0, noise, expand_time(t, x0))


def velocity_of_path(
    x_t: Float[Tensor, " B *latent"], x0: Float[Tensor, " B *latent"], t: Float[Tensor, " B"]
) -> Float[Tensor, " B *latent"]:
    """The target velocity v = (x_t - x0) / t = noise - x0, for t > 0."""
    return (x_t - x0) / expand_time(t, x0)


def predict_x0(
    x_t: Float[Tensor, " B *latent"], velocity: Float[Tensor, " B *latent"], t: Float[Tensor, " B"]
) -> Float[Tensor, " B *latent"]:
    """The clean latent that `velocity` points at, x0 = x_t - t v."""
    return x_t - expand_time(t, x_t) * velocity
