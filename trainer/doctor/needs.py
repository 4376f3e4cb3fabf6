"""What a run needs and whether it is there: driver, memory of GPU and node, disk, time. Findings, one per line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch

from edit_r1.trainer.config import CHECKPOINTS_NAME, TrainConfig
from edit_r1.trainer.doctor import machine
from edit_r1.trainer.doctor.estimates import checkpoint_bytes, epoch_flops, host_memory, memory
from edit_r1.trainer.doctor.planning import Gpus, plan_of, savings, shape_of
from edit_r1.trainer.models.base import ModelFamily

Mark = Literal["ok", "..", "warn", "FAIL", ""]
Finding = tuple[Mark, str]
"""(mark, line); a line without a mark belongs to the one before it or after it."""
_USABLE = 0.92
"""Share of a GPU's memory that a run can count on."""


def driver() -> Iterator[Finding]:
    """Whether the NVIDIA driver, where there is one, is new enough for this torch."""
    version, cuda = machine.driver_version(), torch.version.cuda
    if version is None or cuda is None:
        return
    told, needed = f"NVIDIA driver {version}; torch {torch.__version__} is for CUDA {cuda}", machine.driver_needed(cuda)
    if needed is None or int(version.partition(".")[0]) >= needed:
        yield "ok", told
    else:
        yield "FAIL", f"{told}, which needs driver {needed} or newer: update it, or install a torch for an older CUDA"


class Needs:
    """The needs of one configured run on GPUs."""

    def __init__(self, family: ModelFamily, config: TrainConfig, gpus: Gpus, num_sources: int) -> None:
        self._family, self._config, self._gpus, self._num_sources = family, config, gpus, num_sources
        self._shape, self._plan = shape_of(family, config), plan_of(family, config, gpus, num_sources)

    def gpu_memory(self) -> Iterator[Finding]:
        """GPU memory by component and, where it does not suffice, what to change."""
        gpus, parts = self._gpus, memory(self._shape, self._plan)
        yield "", f"estimated memory per {gpus.kind}:"
        for name, num_bytes in parts.items():
            if num_bytes:
                yield "", f"{num_bytes / 1e9:8.1f} GB  {name}"
        total, limit = sum(parts.values()) / 1e9, gpus.gigabytes * _USABLE
        mark: Mark = "ok" if total <= limit else "FAIL"
        yield mark, f"{total:.1f} GB of {limit:.1f} GB usable ({_USABLE:.0%} of {gpus.gigabytes:g} GB)"
        if total > limit:
            yield from (("", advice) for advice in self._advice(limit))

    def main_memory(self) -> Iterator[Finding]:
        """Main memory of a node; nothing where the CPU trains, as it is the same memory."""
        if self._gpus.kind == "CPU":
            return
        stages = {name: num_bytes / 1e9 for name, num_bytes in host_memory(self._shape, self._plan).items()}
        number = self._plan.gpus_per_node
        told = (
            f"main memory of a node with {number} process{'es' if number > 1 else ''}: up to "
            f"{stages['loading']:.0f} GB while loading, {stages['training']:.0f} GB later"
        )
        if self._gpus.here:
            present = machine.memory_bytes() / 1e9
            yield "ok" if max(stages.values()) <= present else "warn", f"{told}; this machine has {present:.0f} GB"
        else:
            yield "ok", told

    def disk(self) -> Iterator[Finding]:
        """Space for checkpoints in the file system of the run directory."""
        keep, run_dir = self._config.checkpoint.keep, self._config.run_dir
        one, room = checkpoint_bytes(self._shape, self._plan) / 1e9, machine.room_for(run_dir / CHECKPOINTS_NAME) / 1e9
        total = one * (keep + 1)
        told = (
            f"checkpoints of {one:.3g} GB, checkpoint.keep = {keep} and one being written: {total:.3g} GB; "
            f"{run_dir} has room for {room:.3g} GB"
        )
        yield "ok" if total <= room else "FAIL", told

    def time(self) -> Iterator[Finding]:
        """Seconds of an epoch, or their span where the rate of arithmetic is assumed."""
        gpus, (slow, fast) = self._gpus, self._gpus.span
        longest, shortest = self.epoch_seconds(slow), self.epoch_seconds(fast)
        if gpus.rate == "assumed":
            rate = f"if a {gpus.kind} sustains {slow:g}-{fast:g} TFLOP/s (assumed; --tflops sets a measured rate)"
            stages = [f"{name} {shortest[name]:,.0f}-{longest[name]:,.0f} s" for name in longest]
        else:
            rate = f"at {slow:.3g} TFLOP/s per {gpus.kind} ({gpus.rate})"
            stages = [f"{name} {longest[name]:,.0f} s" for name in longest]
        yield "ok", f"estimated epoch {rate}: {', '.join(stages)}"

    def epoch_seconds(self, teraflops: float) -> dict[str, float]:
        """Seconds of an epoch by stage, at this rate of each GPU."""
        rate = self._gpus.count * teraflops * 1e12
        return {name: flops / rate for name, flops in epoch_flops(self._shape, self._plan).items()}

    def _advice(self, limit: float) -> Iterator[str]:
        """Suggested changes, applied cumulatively until the run fits."""
        for override, changed in savings(self._config, self._gpus.count):
            plan = plan_of(self._family, changed, self._gpus, self._num_sources)
            total = sum(memory(shape_of(self._family, changed), plan).values()) / 1e9
            yield f"{override} brings it to {total:.1f} GB"
            if total <= limit:
                return
        yield "still too large: use more or larger GPUs, or smaller images"
