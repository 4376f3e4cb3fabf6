"""The processes of one run: this process's identity, and the few collectives between processes.

A run on N processes (accelerate launch) computes what one process would: rewards, counts and gradients are summed over
all. With one process every operation here is the identity.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor
from torch.distributed.distributed_c10d import _get_default_store

from edit_r1.shared.errors import CheckpointError, EditR1Error
from edit_r1.trainer.machine.stopping import Stopped, StopSignals

_STOP_KEY = "edit-r1/stop"
"""Key of the processes' common store that holds the number of the signal that one of them has received."""

T = TypeVar("T")


class Processes:
    """All processes of the run, as seen from this one."""

    def __init__(self, patience_seconds: float, stop_signals: StopSignals | None = None) -> None:
        """patience_seconds: how long a process waits for another before considering it dead."""
        self._stop_signals = stop_signals or StopSignals()
        self._state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(seconds=patience_seconds))

    @property
    def rank(self) -> int:
        """Index of this process, from 0."""
        return int(self._state.process_index)

    @property
    def count(self) -> int:
        """Number of processes."""
        return int(self._state.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return bool(self._state.is_main_process)

    @property
    def device(self) -> torch.device:
        """Device of this process's model."""
        device: torch.device = self._state.device
        return device

    def share(self, items: Sequence[T], unit: int) -> tuple[T, ...]:
        """The items assigned to this process; see the function `share`."""
        return share(items, self.rank, self.count, unit)

    def sum(self, value: Tensor) -> Tensor:
        """Sum of `value` over all processes, the same on each; NaN anywhere stays NaN."""
        total = value.detach().clone().to(self.device)
        if self.count > 1:
            torch.distributed.all_reduce(total)
        return total.to(value.device)

    def in_step(self, items: Iterable[T], *, together: bool, may_stop: bool = True) -> Iterator[T | None]:
        """Yield the items; if `together`, then None for as long as another process has more.

        A forward pass of sharded weights is a collective, so a process without items must still take part.
        All processes must call this and exhaust it. If `may_stop`, it raises Stopped on all of them once any has been
        asked to stop: before the next item, or, if not `together`, when the others have also come to their next item.
        """
        iterator = iter(items)
        while True:
            item = next(iterator, None)
            stops = may_stop and self._asked_to_stop() > 0
            more = item is not None and not stops
            if together or not more:
                more, stops = self._any(more, stops)
            if stops:
                raise Stopped(max(self.gather([self._asked_to_stop()])))
            if not more:
                return
            yield item

    def _any(self, *mine: bool) -> list[bool]:
        """Whether each is true on any process."""
        found: list[bool] = self.sum(torch.tensor([float(one) for one in mine])).bool().tolist()
        return found

    def _asked_to_stop(self) -> int:
        """Number of the signal by which this process or another was asked to stop; 0 for none. Not a collective."""
        signals = self._stop_signals
        if self.count > 1:
            store = _get_default_store()
            if signals.received:
                store.set(_STOP_KEY, str(signals.received))
            elif store.check([_STOP_KEY]):
                signals.received = int(store.get(_STOP_KEY))
        return signals.received

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace every gradient by its sum over all processes, in one all-reduce."""
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def gather(self, items: list[T]) -> list[T]:
        """Items of all processes in one list on each, by rank; pickled, so keep them small (no images)."""
        gathered: list[Any] = gather_object(items) if self.count > 1 else items
        return gathered

    def all_or_none(self, work: Callable[[], T]) -> list[T]:
        """Do some work on every process; returns the results by rank. If it fails on one, all raise an error.

        So no process waits for one that has failed. An EditR1Error is raised again where it occurred; what is raised
        elsewhere is a CheckpointError.
        """
        result: T | None = None
        cause: Exception | None = None
        try:
            result = work()
        except Exception as error:  # raised below, on all processes
            cause = error
        outcomes = self.gather([(result, None if cause is None else _told(cause))])
        faults = {rank: fault for rank, (_, fault) in enumerate(outcomes) if fault is not None}
        if isinstance(cause, EditR1Error) and set(faults.values()) == {_told(cause)}:
            raise cause
        if faults:
            told = "; ".join(f"process {rank}: {fault}" for rank, fault in faults.items())
            same = len(faults) == self.count and len(set(faults.values())) == 1
            raise CheckpointError(faults[0] if same else told) from cause
        return [cast("T", result) for result, _ in outcomes]

    def gather_on_main(self, items: Sequence[T]) -> list[T]:
        """Items of all processes in one list on the main process, by rank; an empty one on the others. Pickled.

        Each process sends one item at a time, so the main device never holds more than `count` of them: they may be
        images.
        """
        if self.count == 1:
            return list(items)
        received: list[list[T]] = [[] for _ in range(self.count)]
        for index in range(max(self.gather([len(items)]))):
            parts: list[Any] | None = [None] * self.count if self.is_main else None
            torch.distributed.gather_object(list(items[index : index + 1]), parts, dst=0)
            for rank, part in enumerate(parts or ()):
                received[rank] += part
        return [item for part in received for item in part]

    def describe(self) -> str:
        """One-line description, with a warning when `accelerate launch` started fewer processes than requested."""
        line = f"{self.count} process{'es' if self.count > 1 else ''} on {self.device.type}"
        # On a CPU it silently ignores --num_processes unless --multi_gpu is given too; it leaves these variables.
        if "ACCELERATE_DYNAMO_BACKEND" in os.environ and "MASTER_PORT" in os.environ and "RANK" not in os.environ:
            line += "; WARNING: accelerate launch started one process, not several: add --multi_gpu (also on CPUs)"
        return line

    def wait(self) -> None:
        """Wait until all processes arrive."""
        self._state.wait_for_everyone()

    def close(self) -> None:
        """Leave the process group, so that no process is left waiting for this one."""
        if self.count > 1:
            self._state.destroy_process_group()


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, EditR1Error) else f"{type(error).__name__}: {error}"


def share(items: Sequence[T], rank: int, num_processes: int, unit: int) -> tuple[T, ...]:
    """The items of process `rank`: every num_processes-th unit of `unit` consecutive items.

    A unit is always computed as one batch, on whichever process. Floating-point sums depend on the batch they are
    computed in, so this makes N processes compute the same as one. Shares differ by at most one unit; none is dropped.
    """
    units = [items[start : start + unit] for start in range(0, len(items), unit)]
    return tuple(item for mine in units[rank::num_processes] for item in mine)
