"""What the trainer needs of an image editor: seven members, and the conditioning that travels between them.

LoRA, solver, loss, EMA and checkpoints see only this surface, never a family's name. Mathematics is shared, glue is
not: a new family is one new file.
Legend: B rows, [...] one latent in the family's own layout.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Conditioning:
    """What an editor is conditioned on, for B rows; families choose the names."""

    batched: Mapping[str, Tensor]
    """Tensors whose first dimension is the row, [B, ...]."""
    shared: Mapping[str, Tensor]
    """Tensors that are the same for every row, such as position ids."""

    def select(self, rows: Tensor) -> Conditioning:
        """The given rows, in the given order, repeats allowed. rows: int64 [B']."""
        return Conditioning({name: value[rows] for name, value in self.batched.items()}, self.shared)

    @staticmethod
    def concatenate(parts: Sequence[Conditioning]) -> Conditioning:
        """All rows of all parts; the shared tensors are the first part's."""
        names = parts[0].batched
        return Conditioning({n: torch.cat([part.batched[n] for part in parts]) for n in names}, parts[0].shared)


@dataclass(frozen=True)
class LoadOptions:
    """How a family is loaded."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    guidance: float
    """The family's guidance, used in every forward."""
    device: torch.device
    precision: Precision = "auto"
    """auto: bfloat16 on an accelerator, float32 on a CPU."""
    max_text_tokens: int | None = None
    """None: the tokenizer's own limit."""
    gradient_checkpointing: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of transformer and text encoders."""
        if self.precision == "auto":
            return torch.float32 if self.device.type == "cpu" else torch.bfloat16
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32


class ModelFamily(ABC):
    """An image editor as the trainer sees it. All weights are frozen; adapters are added by the policy."""

    lora_targets: ClassVar[tuple[str, ...]]
    """Names (suffixes) of the modules that adapters go to by default."""
    transformer: nn.Module
    """The part that is trained; a diffusers model with the PEFT mixin."""

    @classmethod
    @abstractmethod
    def load(cls, path: str, options: LoadOptions) -> ModelFamily:
        """Load a pipeline directory. Raises ConfigError when it is not one of this family or the size does not fit."""

    @abstractmethod
    def encode(self, instructions: Sequence[str], sources: Sequence[Sequence[Image.Image]]) -> Conditioning:
        """Condition on B instructions and their source images (already of the run's size); no gradient."""

    @abstractmethod
    def initial_noise(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Standard normal latents [B, ...] float32, row i from generators[i]."""

    @abstractmethod
    def sigmas(self, num_steps: int) -> Tensor:
        """The model's own sigma grid for `num_steps`, float64 [num_steps + 1], from 1 to 0."""

    @abstractmethod
    def velocity(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """v(x_t, t), float32 [B, ...]; t in [0, 1], [B]."""

    @abstractmethod
    def decode(self, x0: Tensor) -> list[Image.Image]:
        """B edited images of the run's size; no gradient."""
