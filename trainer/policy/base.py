"""The policy and its copies: `default` is trained, `old` rolls out, `ema` is evaluated, the reference never changes.

Implemented in `lora` and `full`. Losses, checkpoints and rollouts use only this interface.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from edit_r1.trainer.machine.sharding import whole

CopyName = Literal["default", "old", "ema"]
PolicyName = Literal["default", "old", "ema", "reference"]
COPIES: tuple[CopyName, ...] = get_args(CopyName)


class Policy(ABC):
    """Trained weights of a transformer, and copies that follow them."""

    weights_name: ClassVar[str]
    """File name of a saved copy, following diffusers."""
    prefix: ClassVar[str]
    """Prefix of the names of `tensors` in that file."""
    mismatch: ClassVar[str]
    """Error message for saved weights with other names or shapes; `{name}` is the copy's."""
    sharded: bool
    """Whether a forward pass is a collective, so that all processes must run the same number of them."""
    holds_shards: bool
    """Whether a process holds only shards of the trained weights. Their gradients are then already summed over the
    processes, and checkpoints are written in shards."""

    @abstractmethod
    def named_parameters(self) -> Mapping[str, nn.Parameter]:
        """The trained parameters, in a fixed order."""

    @abstractmethod
    def use(self, name: PolicyName) -> AbstractContextManager[None]:
        """Inside the block, forward passes use this policy, without gradients; afterwards `default` is active again."""

    @abstractmethod
    def tensors(self, name: CopyName) -> dict[str, Tensor]:
        """A copy's weights, sharing its memory: what is written to them counts. Sharded where the policy is."""

    def state(self, name: CopyName) -> dict[str, Tensor]:
        """A copy of a copy's weights, whole, on the CPU. If the trained parameters are sharded, all must call it."""
        return {
            key: whole(tensor).detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, tensor in self.tensors(name).items()
        }

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
