"""FLUX.2 [klein]: source images follow the noisy latents in one token sequence, distinguished by a time index.

Latents are normalised 2x2 patches: [B, S tokens, 4 C channels]. Conditioning: three layers of a Qwen3 language model,
source latents. Base checkpoints can be sampled with a negative branch (the pipeline's `guidance_scale`), distilled ones
cannot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from diffusers import Flux2KleinPipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from PIL import Image
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from edit_r1.shared.errors import ConfigError
from edit_r1.trainer.mathematics.sizes import ImageSize
from edit_r1.trainer.models.base import Conditioning, LoadOptions, ModelFamily
from edit_r1.trainer.models.sampling import NegativeBranch
from edit_r1.trainer.models.sigma_grid import sigmas_at

_LONGEST_TEXT = 512
_TIME_STEP = 10  # between the time indices of sources; the edit's is 0


class Flux2Klein(ModelFamily):
    """ModelFamily for a Flux2KleinPipeline."""

    max_sources = 4
    lora_targets = (
        "attn.to_q",
        "attn.to_k",
        "attn.to_v",
        "attn.to_out.0",
        "attn.add_q_proj",
        "attn.add_k_proj",
        "attn.add_v_proj",
        "attn.to_add_out",
        "attn.to_qkv_mlp_proj",
    )
    decoder_numbers, encoder_numbers = 768, 640
    negative_branch = NegativeBranch(prompt="", keeps_norm=False)

    def __init__(self, pipeline: Flux2KleinPipeline, options: LoadOptions) -> None:
        self.transformer, self.vae = pipeline.transformer, pipeline.vae
        self.text_encoders = (pipeline.text_encoder,)
        self.size_multiple = pipeline.vae_scale_factor * 2
        self._pipeline = pipeline
        self._options, self.dtype = options, options.dtype
        self.max_text_tokens = min(_LONGEST_TEXT, options.max_text_tokens or _LONGEST_TEXT)
        statistics = pipeline.vae.bn
        self._mean = statistics.running_mean.view(1, -1, 1, 1)
        self._std = (statistics.running_var + pipeline.vae.config.batch_norm_eps).sqrt().view(1, -1, 1, 1)

    @classmethod
    def load(cls, path: str, options: LoadOptions) -> Flux2Klein:
        """Load from a pipeline directory or Hub name; see ModelFamily.load."""
        return cls(options.from_pretrained(Flux2KleinPipeline, path), options)

    @classmethod
    def why_no_negative_branch(cls, path: str) -> str | None:
        """Distilled checkpoints have none; the pipeline ignores guidance for them, too."""
        try:
            distilled = Flux2KleinPipeline.load_config(path).get("is_distilled", False)
        except (OSError, ValueError) as error:
            raise ConfigError(f"model.path = {path!r} is not a Flux2KleinPipeline: {error}") from error
        return f"the checkpoint at model.path = {path} is distilled" if distilled else None

    def num_cut_tokens(self, instruction: str) -> int:
        """Tokens beyond the limit, counted with the chat template."""
        turn = [{"role": "user", "content": instruction}]
        text = self._pipeline.tokenizer.apply_chat_template(
            turn, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        length = len(self._pipeline.tokenizer(text, verbose=False).input_ids)
        return max(0, length - self.max_text_tokens)

    def _encode(self, instructions: Sequence[str], sources: Sequence[Sequence[Image.Image]]) -> Conditioning:
        """Encode the text with the language model and each source with the VAE."""
        tokens, text_ids = self._pipeline.encode_prompt(
            prompt=list(instructions), device=self._options.device, max_sequence_length=self.max_text_tokens
        )
        encoded = [
            torch.cat([self._encode_images(part) for part in self.vae_parts(images, images[0].size)])
            for images in zip(*sources, strict=True)
        ]
        places = [self._position_ids(_TIME_STEP * index, image.size) for index, image in enumerate(sources[0], 1)]
        edit = self._position_ids(0, sources[0][0].size)
        return Conditioning(
            {"tokens": tokens, "source": torch.cat(encoded, dim=1)},
            {"text_ids": text_ids[:1], "image_ids": torch.cat([edit, *places])[None]},
        )

    def initial_noise(self, generators: Sequence[torch.Generator], size: ImageSize) -> Tensor:
        """Noise drawn in diffusers' layout and then packed, so that a seed gives the same noise as in diffusers."""
        shape = (1, self._pipeline.transformer.config.in_channels, *self.grid(size))
        noise = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
        return _pack(noise).to(self._options.device)

    def sigmas(self, num_steps: int, size: ImageSize) -> Tensor:
        """The scheduler's grid, with the shift fitted for this image size and number of steps."""
        mu = compute_empirical_mu(math.prod(self.grid(size)), num_steps)
        return sigmas_at(self._pipeline.scheduler, num_steps, mu)

    def velocity(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """One forward pass over [x_t; sources]; the velocity is read at x_t's tokens."""
        dtype, given, shared = self._options.dtype, conditioning.batched, conditioning.shared
        guidance = None
        if self._pipeline.transformer.config.guidance_embeds:
            guidance = torch.full((x_t.shape[0],), self._options.guidance, device=x_t.device)
        output = self.transformer(
            hidden_states=torch.cat([x_t.to(dtype), given["source"].to(dtype)], dim=1),
            timestep=t,
            guidance=guidance,
            encoder_hidden_states=given["tokens"],
            txt_ids=shared["text_ids"].expand(len(x_t), -1, -1),
            img_ids=shared["image_ids"].expand(len(x_t), -1, -1),
            return_dict=False,
        )[0]
        # Loss and solver use float32 regardless of the transformer's dtype, because they subtract nearly equal numbers.
        velocity: Tensor = output[:, : x_t.shape[1]].float()
        return velocity

    def _decode(self, x0: Tensor, size: ImageSize) -> list[Image.Image]:
        """Decode latents to images with the VAE."""
        grid = x0.float().transpose(1, 2).reshape(len(x0), -1, *self.grid(size))
        latents = pixel_shuffle(grid * self._std + self._mean, 2)
        pixels = self._pipeline.vae.decode(latents, return_dict=False)[0]
        images: list[Image.Image] = self._pipeline.image_processor.postprocess(pixels, output_type="pil")
        return images

    def _encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        vae = self._pipeline.vae
        width, height = images[0].size
        pixels = self._pipeline.image_processor.preprocess(list(images), height, width)
        latents = vae.encode(pixels.to(self._options.device, torch.float32)).latent_dist.mode()
        return _pack((pixel_unshuffle(latents, 2) - self._mean) / self._std)

    def _position_ids(self, time: int, size: ImageSize) -> Tensor:
        """[S, 4]: (time, row, column, 0) of each token."""
        rows, columns = self.grid(size)
        ids = torch.zeros(rows, columns, 4, device=self._options.device, dtype=torch.int64)
        ids[..., 0] = time
        ids[..., 1] = torch.arange(rows)[:, None]
        ids[..., 2] = torch.arange(columns)[None, :]
        return ids.flatten(0, 1)


def _pack(latents: Tensor) -> Tensor:
    """[B, C, rows, columns] -> [B, rows * columns, C]."""
    return latents.flatten(2).transpose(1, 2)
