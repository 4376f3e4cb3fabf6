"""Shared by the world's three small trainings: a learning-rate schedule with progress bar, and a clipped step."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from rich.progress import Progress
from torch import Tensor
from torch.optim import Optimizer


def schedule(optimizer: Optimizer, steps: int, rate: float, *, warmup: int, floor: float, name: str) -> Iterator[int]:
    """Yield steps, setting the learning rate before each: linear warm-up, then cosine decay to floor * rate."""
    with Progress(transient=True) as progress:
        for step in progress.track(range(steps), description=name):
            cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * cosine)
            yield step


def descend(optimizer: Optimizer, *losses: Tensor) -> None:
    """One optimizer step on the sum of the losses, back-propagated one by one; the gradient norm is clipped to 1."""
    optimizer.zero_grad(set_to_none=True)
    for loss in losses:
        loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
