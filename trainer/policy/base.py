"""The policy and its copies: `default` is trained, `old` rolls out, `ema` is evaluated, the reference stays as it was.

Two kinds, in `lora_policy` and `full_policy`. Losses, checkpoints and rollouts see only this surface.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar, Literal, get_args

from torch import Tensor, nn

CopyName = Literal["default", "old", "ema"]
PolicyName = Literal["default", "old", "ema", "reference"]
COPIES: tuple[CopyName, ...] = get_args(CopyName)


class Policy(ABC):
    """Trained weights of a transformer, and copies of them that follow."""

    weights_name: ClassVar[str]
    """File that a copy is written to, as diffusers names it."""
    prefix: ClassVar[str]
    """What stands before the names of `state` in that file."""
    sharded: bool
    """A forward is a collective: every process has to make as many as the others."""
    gradients_are_sums: bool
    """Gradients are summed over the processes already."""

    @abstractmethod
    def named_parameters(self) -> Mapping[str, nn.Parameter]:
        """The trained parameters, in a fixed order."""

    @abstractmethod
    def use(self, name: PolicyName) -> AbstractContextManager[None]:
        """Forwards inside compute this policy's velocity, without gradients; afterwards `default` is back."""

    @abstractmethod
    def state(self, name: CopyName, *, keep: bool = True) -> dict[str, Tensor]:
        """A copy's weights, whole, on the CPU; empty unless `keep`. Every process has to call it."""

    @abstractmethod
    def load_state(self, name: CopyName, state: Mapping[str, Tensor]) -> None:
        """Overwrite a copy's weights. Raises CheckpointError when names or shapes do not fit."""

    @abstractmethod
    def metadata(self) -> dict[str, str]:
        """What goes into the weights file beside the weights."""

    @abstractmethod
    def write_config(self, directory: Path) -> None:
        """Write what diffusers needs beside the weights file to load it."""

    def parameters(self) -> list[nn.Parameter]:
        """The trained parameters, in the order of `named_parameters`."""
        return list(self.named_parameters().values())

    def update_old(self, decay: float) -> None:
        """Old <- decay old + (1 - decay) default."""
        self._follow("old", decay)

    def update_ema(self, decay: float) -> None:
        """EMA <- decay EMA + (1 - decay) default."""
        self._follow("ema", decay)

    @abstractmethod
    def _follow(self, name: CopyName, decay: float) -> None:
        """Move a copy towards `default`."""
