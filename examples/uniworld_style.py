"""Example of a custom model family for a pipeline that is not in diffusers, as described in docs/model-families.md.

Structured like UniWorld: a multimodal language model reads source image and instruction, a small connector turns its
hidden states into the conditioning of a FLUX transformer, which sees the source's latents next to its own.

    edit-r1 train CONFIG model.family=examples.uniworld_style:UniWorldStyle model.path=DIRECTORY ...

    DIRECTORY/language_model/   a Qwen2.5-VL checkpoint with its processor
    DIRECTORY/connector.safetensors   tokens.weight, tokens.bias, pooled.weight, pooled.bias
    DIRECTORY/transformer/ vae/ scheduler/   as diffusers saves them
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from edit_r1.shared.errors import ConfigError
from edit_r1.trainer.mathematics.sizes import ImageSize
from edit_r1.trainer.models.base import Conditioning, LoadOptions, ModelFamily
from edit_r1.trainer.models.packing import pack, unpack
from edit_r1.trainer.models.sigma_grid import shifted_sigmas


class Connector(nn.Module):
    """Maps the language model's hidden states to the transformer's conditioning."""

    def __init__(self, hidden: int, tokens: int, pooled: int) -> None:
        super().__init__()
        self.tokens = nn.Linear(hidden, tokens)
        self.pooled = nn.Linear(hidden, pooled)


class UniWorldStyle(ModelFamily):
    """A language model, a connector and a FLUX transformer as a model family of the trainer."""

    max_sources = 1
    max_text_tokens = 512
    lora_targets = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_k_proj", "attn.add_v_proj")

    def __init__(self, directory: Path, options: LoadOptions) -> None:
        self._options, self.dtype = options, options.dtype
        weights = torch.float32 if options.trains_all else options.dtype
        self.transformer = FluxTransformer2DModel.from_pretrained(directory / "transformer", torch_dtype=weights)
        self._vae: Any = AutoencoderKL.from_pretrained(directory / "vae")
        self.vae = self._vae
        self._language: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            directory / "language_model", dtype=options.dtype
        )
        self._processor = AutoProcessor.from_pretrained(directory / "language_model")
        self._scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(directory / "scheduler")
        self._connector = _connector(load_file(directory / "connector.safetensors"))
        self.text_encoders = (self._language,)
        options.settle(
            {
                "transformer": self.transformer,
                "vae": self.vae,
                "text_encoder": self._language,
                "connector": self._connector,
            }
        )
        scale: int = 2 ** (len(self._vae.config.block_out_channels) - 1)
        self._images = VaeImageProcessor(vae_scale_factor=scale)
        self.size_multiple = 2 * scale

    @classmethod
    def load(cls, path: str, options: LoadOptions) -> UniWorldStyle:
        """Load from a directory; see ModelFamily.load."""
        try:
            return cls(Path(path), options)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(f"model.path = {path!r} is not a {cls.__name__} directory: {error}") from error

    def num_cut_tokens(self, instruction: str) -> int:  # noqa: ARG002 - the same for all
        """0: instructions are not truncated."""
        return 0

    def _encode(self, instructions: Sequence[str], sources: Sequence[Sequence[Image.Image]]) -> Conditioning:
        """Runs the language model row by row, so that rows of different lengths need no padding."""
        rows = [self._read(text, images[0]) for text, images in zip(instructions, sources, strict=True)]
        images = [images[0] for images in sources]
        source = torch.cat([self._latents(part) for part in self.vae_parts(images, images[0].size)])
        ids = [self._position_ids(index, sources[0][0].size) for index in (0, 1)]
        batched = [
            Conditioning({"tokens": tokens, "pooled": pooled, "source": source[i : i + 1]}, {"ids": torch.cat(ids)})
            for i, (tokens, pooled) in enumerate(rows)
        ]
        return Conditioning.concatenate(batched)

    def initial_noise(self, generators: Sequence[torch.Generator], size: ImageSize) -> Tensor:
        """Noise in the VAE's layout, packed."""
        rows, columns = self.grid(size)
        shape = (1, self._vae.config.latent_channels, 2 * rows, 2 * columns)
        noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
        return pack(noise).to(self._options.device)

    def sigmas(self, num_steps: int, size: ImageSize) -> Tensor:
        """The scheduler's grid with its dynamic shift for this image size."""
        return shifted_sigmas(self._scheduler, num_steps, math.prod(self.grid(size)))

    def velocity(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """One forward pass over [x_t; source]; the velocity is the output at x_t's tokens."""
        given = conditioning.batched
        output = self.transformer(
            hidden_states=torch.cat([x_t.to(self.dtype), given["source"].to(self.dtype)], dim=1),
            timestep=t,
            guidance=torch.full((len(x_t),), self._options.guidance, device=x_t.device),
            encoder_hidden_states=given["tokens"],
            pooled_projections=given["pooled"],
            txt_ids=torch.zeros(given["tokens"].shape[1], 3, device=x_t.device, dtype=self.dtype),
            img_ids=conditioning.shared["ids"],
            return_dict=False,
        )[0]
        velocity: Tensor = output[:, : x_t.shape[1]].float()
        return velocity

    def _decode(self, x0: Tensor, size: ImageSize) -> list[Image.Image]:
        """Latents to images through the VAE."""
        latents = unpack(x0.float(), *self.grid(size)) / self._vae.config.scaling_factor + self._vae.config.shift_factor
        pixels = self._vae.decode(latents, return_dict=False)[0]
        images: list[Image.Image] = self._images.postprocess(pixels, output_type="pil")
        return images

    def _read(self, instruction: str, source: Image.Image) -> tuple[Tensor, Tensor]:
        """([1, L, C] tokens, [1, C'] pooled) for one row."""
        content = [{"type": "image"}, {"type": "text", "text": instruction}]
        text = self._processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
        inputs = self._processor(text=[text], images=[source], return_tensors="pt").to(self._options.device)
        hidden = self._language.model(**inputs).last_hidden_state.float()
        tokens, pooled = self._connector.tokens(hidden), self._connector.pooled(hidden.mean(dim=1))
        return tokens.to(self.dtype), pooled.to(self.dtype)

    def _latents(self, images: Sequence[Image.Image]) -> Tensor:
        width, height = images[0].size
        pixels = self._images.preprocess(list(images), height, width).to(self._options.device, torch.float32)
        latents = self._vae.encode(pixels).latent_dist.mode()
        return pack((latents - self._vae.config.shift_factor) * self._vae.config.scaling_factor)

    def _position_ids(self, image: int, size: ImageSize) -> Tensor:
        rows, columns = self.grid(size)
        ids = torch.zeros(rows, columns, 3, device=self._options.device, dtype=self.dtype)
        ids[..., 0] = image
        ids[..., 1] = torch.arange(rows)[:, None]
        ids[..., 2] = torch.arange(columns)[None, :]
        return ids.flatten(0, 1)


def _connector(state: dict[str, Tensor]) -> Connector:
    tokens, pooled = state["tokens.weight"], state["pooled.weight"]
    connector = Connector(tokens.shape[1], tokens.shape[0], pooled.shape[0])
    connector.load_state_dict(state)
    return connector
