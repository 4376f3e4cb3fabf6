"""Weights that wait in main memory: a module is on the accelerator while it is needed, and nothing is copied back.

For text encoders, which work once a group and would fill an accelerator for the rest of the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


class Offloaded:
    """Frozen modules on the CPU; their weights are pinned, so that they come quickly."""

    def __init__(self, modules: Sequence[nn.Module], device: torch.device) -> None:
        tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        if device.type == "cuda":
            for tensor in tensors:
                tensor.data = tensor.data.pin_memory()
        self._device = device
        self._resting = [(tensor, tensor.data) for tensor in tensors]

    @contextmanager
    def present(self) -> Iterator[None]:
        """The modules are on the device inside."""
        for tensor, data in self._resting:
            tensor.data = data.to(self._device, non_blocking=True)
        try:
            yield
        finally:
            for tensor, data in self._resting:
                tensor.data = data
