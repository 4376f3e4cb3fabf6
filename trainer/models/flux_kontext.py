"""FLUX.1-Kontext: source latents follow the noisy latents in one token sequence; guidance is an embedding.

Latents are packed 2x2: [B, S tokens, 4 C channels]. Conditioning: T5 tokens, CLIP pooled vector, source latents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from diffusers import FluxKontextPipeline
from PIL import Image
from torch import Tensor

from edit_r1.trainer.mathematics.sizes import ImageSize
from edit_r1.trainer.models.base import Conditioning, LoadOptions, ModelFamily
from edit_r1.trainer.models.packing import pack, unpack
from edit_r1.trainer.models.sampling import NegativeBranch, PublishedSampling
from edit_r1.trainer.models.sigma_grid import shifted_sigmas

_LONGEST_TEXT = 512  # T5 tokens that FLUX was trained with


class FluxKontext(ModelFamily):
    """ModelFamily for a FluxKontextPipeline."""

    max_sources = 1
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
    decoder_numbers, encoder_numbers = 768, 640
    # The pipeline has no default prompt; the empty text is what the absence of an instruction is trained with.
    negative_branch = NegativeBranch(prompt="", keeps_norm=False)
    published_sampling = PublishedSampling(steps=28, guidance=3.5)

    def __init__(self, pipeline: FluxKontextPipeline, options: LoadOptions) -> None:
        self.transformer, self.vae = pipeline.transformer, pipeline.vae
        self.text_encoders = (pipeline.text_encoder, pipeline.text_encoder_2)
        self.size_multiple = pipeline.vae_scale_factor * 2
        self._pipeline = pipeline
        self._options, self.dtype = options, options.dtype
        limit = options.max_text_tokens or pipeline.tokenizer_2.model_max_length
        self.max_text_tokens = min(_LONGEST_TEXT, limit)

    @classmethod
    def load(cls, path: str, options: LoadOptions) -> FluxKontext:
        """Load from a pipeline directory or Hub name; see ModelFamily.load."""
        return cls(options.from_pretrained(FluxKontextPipeline, path), options)

    def num_cut_tokens(self, instruction: str) -> int:
        """Tokens cut off for T5; CLIP only ever sees the first 77 tokens, by FLUX's design."""
        length = len(self._pipeline.tokenizer_2(instruction, verbose=False).input_ids)
        return max(0, length - self.max_text_tokens)

    def _encode(self, instructions: Sequence[str], sources: Sequence[Sequence[Image.Image]]) -> Conditioning:
        """Encode the text with T5 and CLIP, and the single source image with the VAE."""
        tokens, pooled, text_ids = self._pipeline.encode_prompt(
            prompt=list(instructions),
            prompt_2=None,
            device=self._options.device,
            max_sequence_length=self.max_text_tokens,
        )
        images = [one for (one,) in sources]
        encoded = [self._encode_images(part) for part in self.vae_parts(images, images[0].size)]
        batched = {"tokens": tokens, "pooled": pooled, "source": torch.cat(encoded)}
        places = [self._position_ids(index, images[0].size) for index in (0, 1)]
        return Conditioning(batched, {"text_ids": text_ids, "image_ids": torch.cat(places)})

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
        """One forward pass over [x_t; source]; the velocity is read at x_t's tokens."""
        dtype, given = self._options.dtype, conditioning.batched
        guidance = None
        if self._pipeline.transformer.config.guidance_embeds:
            guidance = torch.full((x_t.shape[0],), self._options.guidance, device=x_t.device)
        output = self.transformer(
            hidden_states=torch.cat([x_t.to(dtype), given["source"].to(dtype)], dim=1),
            timestep=t,
            guidance=guidance,
            encoder_hidden_states=given["tokens"],
            pooled_projections=given["pooled"],
            txt_ids=conditioning.shared["text_ids"],
            img_ids=conditioning.shared["image_ids"],
            return_dict=False,
        )[0]
        # Loss and solver use float32 regardless of the transformer's dtype, because they subtract nearly equal numbers.
        velocity: Tensor = output[:, : x_t.shape[1]].float()
        return velocity

    def _decode(self, x0: Tensor, size: ImageSize) -> list[Image.Image]:
        """Decode latents to images with the VAE."""
        vae = self._pipeline.vae
        latents = unpack(x0.float(), *self.grid(size)) / vae.config.scaling_factor + vae.config.shift_factor
        pixels = vae.decode(latents, return_dict=False)[0]
        images: list[Image.Image] = self._pipeline.image_processor.postprocess(pixels, output_type="pil")
        return images

    def _encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        vae = self._pipeline.vae
        width, height = images[0].size
        pixels = self._pipeline.image_processor.preprocess(list(images), height, width)
        latents = vae.encode(pixels.to(self._options.device, torch.float32)).latent_dist.mode()
        return pack((latents - vae.config.shift_factor) * vae.config.scaling_factor)

    def _position_ids(self, image: int, size: ImageSize) -> Tensor:
        """[S, 3]: (0 for the edited image or 1 for the source, row, column) of each token."""
        rows, columns = self.grid(size)
        ids = torch.zeros(rows, columns, 3, device=self._options.device, dtype=self._options.dtype)
        ids[..., 0] = image
        ids[..., 1] = torch.arange(rows)[:, None]
        ids[..., 2] = torch.arange(columns)[None, :]
        return ids.flatten(0, 1)
