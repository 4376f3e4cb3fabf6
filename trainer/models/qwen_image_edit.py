"""Qwen-Image-Edit and Qwen-Image-Edit-Plus (2509, 2511): a vision-language model reads instruction and sources.

Latents are packed 2x2: [B, S tokens, 4 C channels]. Conditioning: the language model's tokens, padded to the longest
text of the batch and masked; source latents, concatenated.
The two differ in the images shown to the language model: one source at the size of the edit, or one to three, labelled
"Picture 1: " and so on, at about 384x384 pixels each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import QwenImageEditPipeline, QwenImageEditPlusPipeline
from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import (
    CONDITION_IMAGE_SIZE,
    calculate_dimensions,
)
from PIL import Image
from torch import Tensor

from edit_r1.trainer.mathematics.sizes import ImageSize
from edit_r1.trainer.models.base import Conditioning, LoadOptions, ModelFamily
from edit_r1.trainer.models.packing import pack, unpack
from edit_r1.trainer.models.sampling import NegativeBranch, PublishedSampling
from edit_r1.trainer.models.sigma_grid import shifted_sigmas


class QwenImageEdit(ModelFamily):
    """ModelFamily for a QwenImageEditPipeline."""

    lora_targets = (
        "attn.to_q",
        "attn.to_k",
        "attn.to_v",
        "attn.to_out.0",
        "attn.add_q_proj",
        "attn.add_k_proj",
        "attn.add_v_proj",
        "attn.to_add_out",
    )
    pipeline_class: ClassVar[Any] = QwenImageEditPipeline
    max_sources = 1
    max_text_tokens = 512  # images take about 190 each
    decoder_numbers, encoder_numbers = 1730, 968
    negative_branch = NegativeBranch(prompt=" ", keeps_norm=True)
    published_sampling = PublishedSampling(steps=28, true_cfg=4.0)

    def __init__(self, pipeline: Any, options: LoadOptions) -> None:
        self.transformer, self.vae = pipeline.transformer, pipeline.vae
        self.text_encoders = (pipeline.text_encoder,)
        self.size_multiple = pipeline.vae_scale_factor * 2
        self._pipeline = pipeline
        self._options, self.dtype = options, options.dtype
        statistics = (pipeline.vae.config.latents_mean, pipeline.vae.config.latents_std)
        self._mean, self._std = (torch.tensor(one).view(1, -1, 1, 1).to(options.device) for one in statistics)

    @classmethod
    def load(cls, path: str, options: LoadOptions) -> QwenImageEdit:
        """Load from a pipeline directory or Hub name; see ModelFamily.load."""
        return cls(options.from_pretrained(cls.pipeline_class, path), options)

    def num_cut_tokens(self, instruction: str) -> int:  # noqa: ARG002 - the same for every instruction
        """Always 0: texts are never truncated, and images do not count against a limit."""
        return 0

    def _encode(self, instructions: Sequence[str], sources: Sequence[Sequence[Image.Image]]) -> Conditioning:
        """Encode instruction and sources with the language model, row by row, and the sources with the VAE."""
        rows = [self._encode_row(text, images) for text, images in zip(instructions, sources, strict=True)]
        grids = [self.grid(image.size) for image in (sources[0][0], *sources[0])]
        shapes = torch.tensor([(1, *grid) for grid in grids])
        return Conditioning.concatenate([Conditioning(row, {"shapes": shapes}) for row in rows])

    def initial_noise(self, generators: Sequence[torch.Generator], size: ImageSize) -> Tensor:
        """Noise drawn in the VAE's layout and then packed, so that a seed gives the same noise as in diffusers."""
        rows, columns = self.grid(size)
        shape = (1, self._pipeline.latent_channels, 2 * rows, 2 * columns)
        noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
        return pack(noise).to(self._options.device)

    def sigmas(self, num_steps: int, size: ImageSize) -> Tensor:
        """The scheduler's grid with its dynamic shift for this image size."""
        return shifted_sigmas(self._pipeline.scheduler, num_steps, math.prod(self.grid(size)))

    def velocity(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """One forward pass over [x_t; sources]; the velocity is read at x_t's tokens."""
        dtype, given = self._options.dtype, conditioning.batched
        shapes = [tuple(shape) for shape in conditioning.shared["shapes"].tolist()]
        guidance = None
        if self._pipeline.transformer.config.guidance_embeds:
            guidance = torch.full((x_t.shape[0],), self._options.guidance, device=x_t.device)
        output = self.transformer(
            hidden_states=torch.cat([x_t.to(dtype), given["source"].to(dtype)], dim=1),
            timestep=t,
            guidance=guidance,
            encoder_hidden_states=given["tokens"],
            encoder_hidden_states_mask=None if given["mask"].all() else given["mask"],
            img_shapes=[shapes] * len(x_t),
            return_dict=False,
        )[0]
        # Loss and solver use float32 regardless of the transformer's dtype, because they subtract nearly equal numbers.
        velocity: Tensor = output[:, : x_t.shape[1]].float()
        return velocity

    def _decode(self, x0: Tensor, size: ImageSize) -> list[Image.Image]:
        """Decode latents to images with the VAE, a video VAE: an image is a video of one frame."""
        latents = unpack(x0.float(), *self.grid(size)) * self._std + self._mean
        pixels = self._pipeline.vae.decode(latents.unsqueeze(2), return_dict=False)[0][:, :, 0]
        images: list[Image.Image] = self._pipeline.image_processor.postprocess(pixels, output_type="pil")
        return images

    def _shown(self, images: Sequence[Image.Image]) -> Any:
        """The images shown to the language model."""
        return images[0]

    def _encode_row(self, instruction: str, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        tokens, mask = self._pipeline.encode_prompt(
            prompt=instruction, image=self._shown(images), device=self._options.device
        )
        if mask is None:  # no padding
            mask = torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device)
        source = torch.cat([self._encode_image(image) for image in images], dim=1)
        return {"tokens": tokens, "mask": mask.bool(), "source": source}

    def _encode_image(self, image: Image.Image) -> Tensor:
        width, height = image.size
        pixels = self._pipeline.image_processor.preprocess(image, height, width).unsqueeze(2)
        latents = self._pipeline.vae.encode(pixels.to(self._options.device, torch.float32)).latent_dist.mode()
        return pack((latents[:, :, 0] - self._mean) / self._std)


class QwenImageEditPlus(QwenImageEdit):
    """ModelFamily for a QwenImageEditPlusPipeline, with one to three sources."""

    pipeline_class = QwenImageEditPlusPipeline
    max_sources = 3

    def _shown(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        sizes = [calculate_dimensions(CONDITION_IMAGE_SIZE, image.width / image.height) for image in images]
        resize = self._pipeline.image_processor.resize
        return [resize(image, height, width) for image, (width, height) in zip(images, sizes, strict=True)]
