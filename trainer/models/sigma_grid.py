"""Sigma grids of pipelines that shift them by the number of image tokens, such as FLUX.1 and Qwen-Image."""

from __future__ import annotations

from typing import Any

import numpy as np
from diffusers.pipelines.flux.pipeline_flux_kontext import calculate_shift
from torch import Tensor


def shifted_sigmas(scheduler: Any, num_steps: int, num_tokens: int) -> Tensor:
    """The scheduler's grid for an edit of `num_tokens` tokens, float64 [num_steps + 1]."""
    config = scheduler.config
    mu = calculate_shift(
        num_tokens, config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift
    )
    return sigmas_at(scheduler, num_steps, mu)


def sigmas_at(scheduler: Any, num_steps: int, mu: float) -> Tensor:
    """The scheduler's grid for a given shift, float64 [num_steps + 1]."""
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / num_steps, num_steps), mu=mu)
    sigmas: Tensor = scheduler.sigmas.double()
    return sigmas
