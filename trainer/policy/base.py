"""The policy and its copies: `default` is trained, `old` rolls out, `ema` is evaluated, the reference never changes.

Implemented in `lora` and `full`. Losses, checkpoints and rollouts use only this interface.
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
    """Trained weights of a transformer, and copies that follow them."""

    weights_name: ClassVar[str]
    """File name of a saved copy, following diffusers."""
    prefix: ClassVar[str]
    """Prefix of the names of `state` in that file."""
    sharded: bool
    """Whether a forward pass is a collective, so that all processes must run the same number of them."""
    gradients_are_sums: bool
    """Whether gradients are already summed over the processes."""

    @abstractmethod
    def named_parameters(self) -> Mapping[str, nn.Parameter]:
        """The trained parameters, in a fixed order."""

    @abstractmethod
    def use(self, name: PolicyName) -> AbstractContextManager[None]:
        """Inside the block, forward passes use this policy, without gradients; afterwards `default` is active again."""

    @abstractmethod
    def state(self, name: CopyName, *, keep: bool = True) -> dict[str, Tensor]:
        """A copy's full weights on the CPU; empty unless `keep`. All processes must call it."""

    @abstractmethod
    def load_state(self, name: CopyName, state: Mapping[str, Tensor]) -> None:
        """Overwrite a copy's weights. Raises CheckpointError when names or shapes do not match."""

    @abstractmethod
    def metadata(self) -> dict[str, str]:
        """Metadata of the weights file."""

    @abstractmethod
    def write_config(self, directory: Path) -> None:
        """Write any other file that diffusers needs to load the weights file."""

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
