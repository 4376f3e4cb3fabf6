"""CPU offloading of frozen weights: a module is on the accelerator only while in use, and nothing is copied back.

Meant for text encoders, which run once per group and would otherwise occupy the accelerator for the whole epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


class Offloaded:
    """Frozen modules on the CPU; their weights are pinned for fast transfers."""

    def __init__(self, modules: Sequence[nn.Module], device: torch.device) -> None:
        tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        if device.type == "cuda":
            for tensor in tensors:
                tensor.data = tensor.data.pin_memory()
        self._device = device
        self._resting = [(tensor, tensor.data) for tensor in tensors]

    @contextmanager
    def present(self) -> Iterator[None]:
        """Inside the block, the modules are on the device."""
        for tensor, data in self._resting:
            tensor.data = data.to(self._device, non_blocking=True)
        try:
            yield
        finally:
            for tensor, data in self._resting:
                tensor.data = data
