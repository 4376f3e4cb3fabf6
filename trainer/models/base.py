"""The interface the trainer needs from an image editor, and the conditioning passed between its parts.

LoRA, solver, loss, EMA and checkpoints use only this interface, never a family's name. The mathematics is shared; the
glue code is not: a new family is one new file.
Legend: B rows, [...] one latent in the family's own layout. All rows of a call share one *layout*: the same number of
source images with the same sizes; the edited image has the size of the first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn

from edit_r1.shared.errors import ConfigError, DataError
from edit_r1.trainer.machine.offloading import Offloaded
from edit_r1.trainer.mathematics.sizes import ImageSize
from edit_r1.trainer.models.quantizing import Quantization, quantized
from edit_r1.trainer.models.sampling import NegativeBranch, PublishedSampling
from edit_r1.trainer.models.skeleton import load_skeleton
from edit_r1.trainer.models.unread import unread_transformer

Precision = Literal["auto", "float32", "bfloat16"]
T = TypeVar("T", Tensor, Sequence[Image.Image])


@dataclass(frozen=True)
class Conditioning:
    """The editor's conditioning for B rows; families choose the names."""

    batched: Mapping[str, Tensor]
    """Tensors whose first dimension is the row, [B, ...]. Where texts differ in length, [B, L, ...] is zero-padded at
    the end, and the family includes a mask."""
    shared: Mapping[str, Tensor]
    """Tensors that are the same for every row, such as position ids."""

    def select(self, rows: Tensor) -> Conditioning:
        """The given rows, in the given order, repeats allowed. rows: int64 [B']."""
        return Conditioning({name: value[rows] for name, value in self.batched.items()}, self.shared)

    @staticmethod
    def concatenate(parts: Sequence[Conditioning]) -> Conditioning:
        """All rows of all parts, which must have one layout; the shared tensors are taken from the first part."""
        names = parts[0].batched
        return Conditioning({n: _concatenate([part.batched[n] for part in parts]) for n in names}, parts[0].shared)


def _concatenate(values: Sequence[Tensor]) -> Tensor:
    """Concatenate along the rows; tensors shorter in dimension 1 are zero-padded."""
    if values[0].ndim > 1:
        longest = max(value.shape[1] for value in values)
        values = [_pad(value, longest) for value in values]
    return torch.cat(list(values))


def _pad(value: Tensor, length: int) -> Tensor:
    missing = length - value.shape[1]
    return value if not missing else torch.cat([value, value.new_zeros(len(value), missing, *value.shape[2:])], dim=1)


@dataclass(frozen=True)
class LoadOptions:
    """Loading options of a family."""

    guidance: float
    """The family's guidance, used in every forward pass."""
    device: torch.device
    precision: Precision = "auto"
    """auto: bfloat16 on an accelerator, float32 on a CPU."""
    max_text_tokens: int | None = None
    """None means the tokenizer's own limit."""
    gradient_checkpointing: bool = False
    trains_all: bool = False
    """Whether the whole transformer is trained; its weights are then float32, whatever the compute precision."""
    will_be_sharded: bool = False
    """Leave the transformer's weights in their files (see `unread`) and the text encoders on the CPU, for sharding."""
    offload_text_encoders: bool = False
    """Keep text encoders on the device only while they are in use."""
    quantization: Quantization = "none"
    """Storage format of the frozen weights of transformer and text encoders."""
    without_weights: bool = False
    """Load a skeleton that can be inspected but not run; see `trainer.models.skeleton`."""
    unread: dict[nn.Module, Sequence[Path]] = field(default_factory=dict, compare=False)
    """Filled by `from_pretrained`: modules on the meta device, with the files that contain their weights."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of transformer and text encoders."""
        if self.precision == "auto":
            return torch.float32 if self.device.type == "cpu" else torch.bfloat16
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def from_pretrained(self, pipeline_class: Any, path: str) -> Any:
        """Load the pipeline with frozen modules in the right dtypes and on the right devices. Raises ConfigError."""
        # The VAE stays in float32: in bfloat16 its decoding error is visibly larger than one step of 1/255.
        dtypes = {"default": self.dtype, "vae": torch.float32}
        if self.trains_all:
            dtypes["transformer"] = torch.float32
        try:
            if self.without_weights:
                return load_skeleton(pipeline_class, path)
            modules = self._unread(path, dtypes.get("transformer", self.dtype))
            pipeline = pipeline_class.from_pretrained(path, dtype=dtypes, **modules, **quantized(self.quantization))
        except (OSError, ValueError) as error:
            raise ConfigError(f"model.path = {path!r} is not a {pipeline_class.__name__}: {error}") from error
        self.settle({name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)})
        return pipeline

    def _unread(self, path: str, dtype: torch.dtype) -> dict[str, nn.Module]:
        """The transformer to be filled by sharding; empty if it must be loaded with the rest of the pipeline."""
        found = unread_transformer(path, dtype) if self.will_be_sharded else None
        if found is None:
            return {}
        self.unread[found[0]] = found[1]
        return {"transformer": found[0]}

    def settle(self, modules: Mapping[str, nn.Module]) -> None:
        """Freeze an editor's modules and move them to their devices; works for pipelines of any library.

        modules: by name; the trained one is `transformer`, text encoders are `text_encoder...`.
        """
        for name, module in modules.items():
            module.requires_grad_(False).eval()
            if not self._stays(name):
                module.to(self.device)
        if self.gradient_checkpointing:
            transformer: Any = modules["transformer"]  # diffusers ships no types
            transformer.enable_gradient_checkpointing()

    def _stays(self, name: str) -> bool:
        """Whether a component must not be moved to the device as a whole."""
        text = name.startswith("text_encoder")
        return (self.will_be_sharded and (text or name == "transformer")) or (self.offload_text_encoders and text)


class ModelFamily(ABC):
    """Interface of an image editor. All weights are frozen; adapters are added by the policy."""

    max_sources: ClassVar[int]
    """Maximum number of source images per task."""
    lora_targets: ClassVar[tuple[str, ...]]
    """Name suffixes of the modules that get adapters by default."""
    decoder_numbers: ClassVar[int] = 1730
    """float32 numbers alive per pixel while the VAE decodes at its real size (`benchmarks.vae_memory`); the doctor's
    estimates use it. The default is the largest of the built-in families."""
    encoder_numbers: ClassVar[int] = 968
    """The same while it encodes."""
    negative_branch: ClassVar[NegativeBranch | None] = None
    """How true classifier-free guidance is done; None for families without it."""
    published_sampling: ClassVar[PublishedSampling | None] = None
    """Settings of published samples; None where we know of none."""
    transformer: nn.Module
    """The trained part; a diffusers model with the PEFT mixin. See `unread`."""
    unread: Mapping[nn.Module, Sequence[Path]] = {}
    """Modules that have no weights until they are sharded, with the files that contain them."""
    dtype: torch.dtype
    """Compute dtype of the transformer."""
    vae: nn.Module
    """Converts between images and latents; frozen."""
    max_text_tokens: int
    """Text length in tokens: the pad/truncate length, or an estimate for families that do neither."""
    text_encoders: tuple[nn.Module, ...]
    """Frozen modules needed only by `encode`."""
    size_multiple: int
    """Width and height of every image must be multiples of this many pixels."""
    offloaded: Offloaded | None = None
    """Moves offloaded text encoders to the device for `encode`; None when they are resident."""
    vae_pixels: int | None = None
    """Maximum number of pixels the VAE processes at once, though always at least one image; None means no limit."""

    @classmethod
    @abstractmethod
    def load(cls, path: str, options: LoadOptions) -> ModelFamily:
        """Load a pipeline directory. Raises ConfigError when it is not one of this family."""

    @classmethod
    def why_no_negative_branch(cls, path: str) -> str | None:  # noqa: ARG003 - the same for all of a family's models
        """Why this model cannot use true classifier-free guidance; None if it can. Loads no weights.

        Raises ConfigError when the path does not have such a model.
        """
        return None if cls.negative_branch else "it has no negative branch"

    @abstractmethod
    def num_cut_tokens(self, instruction: str) -> int:
        """Number of tokens of an instruction cut off because it is too long for the text encoder; 0 if it fits."""

    @torch.no_grad()
    def encode(self, instructions: Sequence[str], sources: Sequence[Sequence[Image.Image]]) -> Conditioning:
        """Encode B instructions and their source images, all of one layout, without gradients.

        Raises DataError for no source images or more than the family accepts.
        """
        for text, images in zip(instructions, sources, strict=True):
            if not 1 <= len(images) <= self.max_sources:
                raise DataError(
                    f"the task {text!r} has {len(images)} source images; {type(self).__name__} takes 1 to "
                    f"{self.max_sources}"
                )
        with self.offloaded.present() if self.offloaded else nullcontext():
            return self._encode(instructions, sources)

    @abstractmethod
    def _encode(self, instructions: Sequence[str], sources: Sequence[Sequence[Image.Image]]) -> Conditioning:
        """See `encode`."""

    @abstractmethod
    def initial_noise(self, generators: Sequence[torch.Generator], size: ImageSize) -> Tensor:
        """Standard normal latents [B, ...] float32 for an edit of this size, row i drawn from generators[i]."""

    @abstractmethod
    def sigmas(self, num_steps: int, size: ImageSize) -> Tensor:
        """The model's own sigma grid for an edit of this size, float64 [num_steps + 1], from 1 to 0."""

    @abstractmethod
    def velocity(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """v(x_t, t), float32 [B, ...]; t in [0, 1], [B]."""

    @torch.no_grad()
    def decode(self, x0: Tensor, size: ImageSize) -> list[Image.Image]:
        """Decode B edited images of this size, at most `vae_pixels` at once, without gradients. x0: [B, ...]."""
        return [image for part in self.vae_parts(x0, size) for image in self._decode(part, size)]

    @abstractmethod
    def _decode(self, x0: Tensor, size: ImageSize) -> list[Image.Image]:
        """Decode B edited images of this size with one call of the VAE."""

    def vae_parts(self, rows: T, size: ImageSize) -> list[T]:
        """Split latents or images of one size into parts that the VAE may process at once."""
        at_once = max(1, self.vae_pixels // (size[0] * size[1])) if self.vae_pixels else len(rows)
        return [rows[start : start + at_once] for start in range(0, len(rows), at_once)]

    def grid(self, size: ImageSize) -> tuple[int, int]:
        """(rows, columns) of tokens of an image of this size."""
        return size[1] // self.size_multiple, size[0] // self.size_multiple

    def check_size(self, size: ImageSize) -> None:
        """Raises ConfigError when images of this size cannot be encoded."""
        if any(side % self.size_multiple for side in size):
            raise ConfigError(
                f"model.width x model.height = {size[0]}x{size[1]}: both must be multiples of {self.size_multiple}"
            )
