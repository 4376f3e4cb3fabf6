"""Seconds and peak GPU memory by stage; a stage inside another is not counted in the outer one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Stage:
    """What one stage took so far."""

    seconds: float = 0.0
    peak_bytes: int = 0
    """Most bytes in use on the GPU during the stage, by weights too; 0 on a CPU."""

    @property
    def peak_gb(self) -> float | None:
        """The peak in 1e9 bytes; None on a CPU, where nobody counts it."""
        return self.peak_bytes / 1e9 if self.peak_bytes else None

    def utilisation(self, flops: float, tflops: float) -> float:
        """Fraction of a rate of `tflops` TFLOP/s at which the stage did `flops` operations."""
        return flops / self.seconds / (tflops * 1e12)


class Stages:
    """Measures stages on one device."""

    def __init__(self, device: torch.device) -> None:
        self.found: dict[str, Stage] = {}
        self._device = device
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the block's time and peak to stage `name`."""
        self._settle()
        self._open.append(name)
        try:
            yield
        finally:
            self._settle()
            self._open.pop()

    def measured(self, name: str, function: Callable[P, R]) -> Callable[P, R]:
        """A function whose calls are stage `name`."""

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with self.measure(name):
                return function(*args, **kwargs)

        return call

    def _settle(self) -> None:
        """Count what happened since the last boundary for the innermost stage."""
        cuda = self._device.type == "cuda"
        if cuda:
            torch.cuda.synchronize(self._device)
        now = time.monotonic()
        if self._open:
            stage = self.found.setdefault(self._open[-1], Stage())
            stage.seconds += now - self._since
            stage.peak_bytes = max(stage.peak_bytes, torch.cuda.max_memory_allocated(self._device) if cuda else 0)
        if cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
        self._since = time.monotonic()
