"""The processes of one run: who we are, and the few things that are said between us.

A run on N processes (accelerate launch) does what one process would: rewards, counts and gradients are summed over all.
With one process every operation here is the identity.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor

T = TypeVar("T")


class Processes:
    """All processes of the run, seen from this one."""

    def __init__(self, patience_seconds: float) -> None:
        """patience_seconds: how long one may wait for another before it takes it for dead."""
        self._state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(seconds=patience_seconds))

    @property
    def rank(self) -> int:
        """Our number, from 0."""
        return int(self._state.process_index)

    @property
    def count(self) -> int:
        """How many processes there are."""
        return int(self._state.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether we are the one that writes files and talks to people."""
        return bool(self._state.is_main_process)

    @property
    def device(self) -> torch.device:
        """Where our model lives."""
        device: torch.device = self._state.device
        return device

    def share(self, items: Sequence[T], unit: int) -> tuple[T, ...]:
        """Our items, dealt out in units; see `trainer.tasks.task_list.share`."""
        return share(items, self.rank, self.count, unit)

    def sum(self, value: Tensor) -> Tensor:
        """The sum of everyone's `value`, the same on all; NaN anywhere stays NaN."""
        total = value.detach().clone().to(self.device)
        if self.count > 1:
            torch.distributed.all_reduce(total)
        return total.to(value.device)

    def in_step(self, items: Iterable[T], *, together: bool) -> Iterator[T | None]:
        """The items; where `together`, then None for as long as another process has more.

        A forward of sharded weights is a collective, so who has nothing left to do has to keep the others company.
        """
        iterator = iter(items)
        while True:
            item = next(iterator, None)
            more = item is not None
            if together and self.count > 1:
                more = bool(self.sum(torch.tensor(float(more))))
            if not more:
                return
            yield item

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace every gradient by its sum over all processes, in one message."""
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
        """Everyone's items in one list, by rank; pickled, so nothing large but a few pictures."""
        gathered: list[Any] = gather_object(items) if self.count > 1 else items
        return gathered

    def describe(self) -> str:
        """A line for people, with a warning when `accelerate launch` started fewer processes than it was asked for."""
        line = f"{self.count} process{'es' if self.count > 1 else ''} on {self.device.type}"
        # On a CPU it ignores --num_processes without a word unless --multi_gpu is given too; it leaves this trace.
        if "ACCELERATE_DYNAMO_BACKEND" in os.environ and "MASTER_PORT" in os.environ and "RANK" not in os.environ:
            line += "; WARNING: accelerate launch was asked for more and started one: add --multi_gpu (also on CPUs)"
        return line

    def wait(self) -> None:
        """Until all are here."""
        self._state.wait_for_everyone()

    def close(self) -> None:
        """Leave the process group, so that no process is left waiting."""
        if self.count > 1:
            self._state.destroy_process_group()


def share(items: Sequence[T], rank: int, num_processes: int, unit: int) -> tuple[T, ...]:
    """The items of process `rank`: every num_processes-th unit of `unit` consecutive items.

    What is computed in one batch is one unit, on whatever process: floating-point sums depend on the batch they are in,
    so this is what makes N processes compute what one would. Shares differ by at most one unit, and nothing is lost.
    """
    units = [items[start : start + unit] for start in range(0, len(items), unit)]
    return tuple(item for mine in units[rank::num_processes] for item in mine)
