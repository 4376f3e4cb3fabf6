"""What the trainer needs of an image editor: nine members, and the conditioning that travels between them.

LoRA, solver, loss, EMA and checkpoints see only this surface, never a family's name. Mathematics is shared, glue is
not: a new family is one new file.
Legend: B rows, [...] one latent in the family's own layout. Rows of one call have one *layout*: as many source images
of the same sizes; the edit has the size of the first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from shared.errors import ConfigError
from trainer.sizes import ImageSize

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Conditioning:
    """What an editor is conditioned on, for B rows; families choose the names."""

    batched: Mapping[str, Tensor]
    """Tensors whose first dimension is the row, [B, ...]. Where texts differ in length, [B, L, ...] holds zeros after
    the text's end, and a mask of the family's tells which."""
    shared: Mapping[str, Tensor]
    """Tensors that are the same for every row, such as position ids."""

    def select(self, rows: Tensor) -> Conditioning:
        """The given rows, in the given order, repeats allowed. rows: int64 [B']."""
        return Conditioning({name: value[rows] for name, value in self.batched.items()}, self.shared)

    @staticmethod
    def concatenate(parts: Sequence[Conditioning]) -> Conditioning:
        """All rows of all parts, of one layout; the shared tensors are the first part's."""
        names = parts[0].batched
        return Conditioning({n: _concatenate([part.batched[n] for part in parts]) for n in names}, parts[0].shared)


def _concatenate(values: Sequence[Tensor]) -> Tensor:
    """Along the rows; those that are shorter in dimension 1 are padded with zeros."""
    if values[0].ndim > 1:
        longest = max(value.shape[1] for value in values)
        values = [_pad(value, longest) for value in values]
    return torch.cat(list(values))


def _pad(value: Tensor, length: int) -> Tensor:
    missing = length - value.shape[1]
    return value if not missing else torch.cat([value, value.new_zeros(len(value), missing, *value.shape[2:])], dim=1)


@dataclass(frozen=True)
class LoadOptions:
    """How a family is loaded."""

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
    size_multiple: int
    """Width and height of every picture are multiples of this many pixels."""

    @classmethod
    @abstractmethod
    def load(cls, path: str, options: LoadOptions) -> ModelFamily:
        """Load a pipeline directory. Raises ConfigError when it is not one of this family."""

    @abstractmethod
    def num_cut_tokens(self, instruction: str) -> int:
        """Tokens of an instruction that the text encoder would not be shown because it is too long; 0: all are."""

    @abstractmethod
    def encode(self, instructions: Sequence[str], sources: Sequence[Sequence[Image.Image]]) -> Conditioning:
        """Condition on B instructions and their source images, all of one layout; no gradient."""

    @abstractmethod
    def initial_noise(self, generators: Sequence[torch.Generator], size: ImageSize) -> Tensor:
        """Standard normal latents [B, ...] float32 of an edit of this size, row i from generators[i]."""

    @abstractmethod
    def sigmas(self, num_steps: int, size: ImageSize) -> Tensor:
        """The model's own sigma grid for an edit of this size, float64 [num_steps + 1], from 1 to 0."""

    @abstractmethod
    def velocity(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """v(x_t, t), float32 [B, ...]; t in [0, 1], [B]."""

    @abstractmethod
    def decode(self, x0: Tensor, size: ImageSize) -> list[Image.Image]:
        """B edited images of this size; no gradient."""

    def grid(self, size: ImageSize) -> tuple[int, int]:
        """(rows, columns) of tokens of a picture of this size."""
        return size[1] // self.size_multiple, size[0] // self.size_multiple

    def check_size(self, size: ImageSize) -> None:
        """Raises ConfigError when pictures of this size have no latents."""
        if any(side % self.size_multiple for side in size):
            raise ConfigError(
                f"model.width x model.height = {size[0]}x{size[1]}: both must be multiples of {self.size_multiple}"
            )
