"""The tiny editor: builds and samples a real FluxKontextPipeline with 2 M parameters.

Uses the trainer's own model family and solvers, so that measurements here match training.
Legend: N tasks, K samples per task, B rows, S latent tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from edit_r1.trainer.mathematics.solvers import dpm_solver_2m
from edit_r1.trainer.models.base import Conditioning, LoadOptions
from edit_r1.trainer.models.flux_kontext import FluxKontext
from edit_r1.worlds.shapes.world.oracle import SUCCESS_THRESHOLD, score_pixels
from edit_r1.worlds.shapes.world.scenes import (
    BACKGROUNDS,
    CELL_NAMES,
    COLORS,
    SHAPES,
    SIZE,
    Pixels,
    render,
    to_image,
    to_pixels,
)
from edit_r1.worlds.shapes.world.tasks import TASKS, ShapesTask

LATENT_CHANNELS = 8
GUIDANCE = 2.5
MAX_TEXT_TOKENS = 12
_FIXED_WORDS = [
    "change",
    "the",
    "to",
    "remove",
    "replace",
    "with",
    "a",
    "make",
    "background",
    "add",
    "at",
    "keep",
    "only",
]


def build_vae() -> AutoencoderKL:
    """32x32 pixels to 8 channels of 8x8, without attention; scaling is set after training."""
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=[16, 32, 32],
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        shift_factor=0.0,
        sample_size=SIZE,
    )


@dataclass(frozen=True)
class Sizes:
    """Sizes of transformer and text encoders; the defaults are the editor's."""

    pooled: int = 64
    """Width of the CLIP text encoder."""
    joint: int = 128
    """Width of the T5 encoder."""
    t5_layers: int = 2
    t5_heads: int = 4
    double_blocks: int = 2
    single_blocks: int = 4
    heads: int = 3
    """Attention heads of the transformer, 32 channels each."""


def build_pipeline(
    vae: AutoencoderKL, tokenizer: PreTrainedTokenizerFast, sizes: Sizes | None = None
) -> FluxKontextPipeline:
    """The pipeline with an untrained transformer and text encoders; draws from torch's global generator."""
    sizes = sizes or Sizes()
    text = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1}
    clip = CLIPTextModel(
        CLIPTextConfig(
            **text,
            bos_token_id=3,
            hidden_size=sizes.pooled,
            intermediate_size=2 * sizes.pooled,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=MAX_TEXT_TOKENS,
        )
    )
    t5 = T5EncoderModel(
        T5Config(
            **text,
            d_model=sizes.joint,
            d_kv=sizes.joint // sizes.t5_heads,
            d_ff=2 * sizes.joint,
            num_layers=sizes.t5_layers,
            num_heads=sizes.t5_heads,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * vae.config.latent_channels,
        num_layers=sizes.double_blocks,
        num_single_layers=sizes.single_blocks,
        attention_head_dim=32,
        num_attention_heads=sizes.heads,
        joint_attention_dim=sizes.joint,
        pooled_projection_dim=sizes.pooled,
        guidance_embeds=True,
        axes_dims_rope=(8, 12, 12),
    )
    scheduler = FlowMatchEulerDiscreteScheduler(
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )
    return FluxKontextPipeline(
        scheduler=scheduler,
        vae=vae,
        text_encoder=clip,
        tokenizer=tokenizer,
        text_encoder_2=t5,
        tokenizer_2=tokenizer,
        transformer=transformer,
    )


def instruction_words() -> set[str]:
    """The vocabulary of the world's instructions."""
    places = [word for name in CELL_NAMES for word in name.split()]
    return {*_FIXED_WORDS, *places, *COLORS, *BACKGROUNDS, *SHAPES}


def build_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """One token per word; all other words are unknown."""
    vocabulary = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", "<s>", *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 - no password
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        bos_token="<s>",  # noqa: S106
        model_max_length=MAX_TEXT_TOKENS,
    )


def as_family(pipeline: FluxKontextPipeline) -> FluxKontext:
    """The pipeline as the trainer sees it, on the CPU."""
    return FluxKontext(pipeline, LoadOptions(guidance=GUIDANCE, device=torch.device("cpu")))


def load_family(directory: Path) -> FluxKontext:
    """The editor saved in a directory, as the trainer sees it."""
    return as_family(FluxKontextPipeline.from_pretrained(directory))


def encode_pixels(family: FluxKontext, pictures: Sequence[Pixels], batch_size: int = 250) -> Tensor:
    """Packed latents of images, [B, S, C]."""
    parts = []
    for start in range(0, len(pictures), batch_size):
        images = [[to_image(picture)] for picture in pictures[start : start + batch_size]]
        parts.append(family.encode([""] * len(images), images).batched["source"])
    return torch.cat(parts)


def decode_pixels(family: FluxKontext, latents: Tensor, batch_size: int = 250) -> npt.NDArray[np.uint8]:
    """Images decoded from packed latents, uint8 [B, 32, 32, 3]."""
    return np.stack(
        [to_pixels(image) for part in torch.split(latents, batch_size) for image in family.decode(part, (SIZE, SIZE))]
    )


@torch.no_grad()
def sample_edits(
    family: FluxKontext, tasks: Sequence[ShapesTask], num_per_task: int, *, steps: int = 6, seed: int = 0
) -> npt.NDArray[np.uint8]:
    """Edits sampled like in a rollout (DPM-Solver++), uint8 [N, K, 32, 32, 3]; noise depends on seed, task, sample."""
    size, edits = (SIZE, SIZE), []
    sigmas = family.sigmas(steps, size)
    for start in range(0, len(tasks), max(1, 192 // num_per_task)):
        chunk = tasks[start : start + max(1, 192 // num_per_task)]
        encoded = family.encode([task.instruction for task in chunk], [[to_image(render(t.source))] for t in chunk])
        conditioning = encoded.select(torch.arange(len(chunk)).repeat_interleave(num_per_task))
        rows = range(start * num_per_task, (start + len(chunk)) * num_per_task)
        noise = family.initial_noise([torch.Generator().manual_seed(seed * 1_000_003 + row) for row in rows], size)
        edits.append(decode_pixels(family, _solve(family, noise, sigmas, conditioning)))
    return np.concatenate(edits).reshape(len(tasks), num_per_task, SIZE, SIZE, 3)


def _solve(family: FluxKontext, noise: Tensor, sigmas: Tensor, conditioning: Conditioning) -> Tensor:
    return dpm_solver_2m(lambda x, t: family.velocity(x, t, conditioning), noise, sigmas)


def oracle_scores(tasks: Sequence[ShapesTask], edits: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Oracle scores of edits [N, K, 32, 32, 3], float64 [N, K]."""
    rendered = [(render(task.source), render(task.target)) for task in tasks]
    return np.array([[score_pixels(s, t, edit) for edit in row] for (s, t), row in zip(rendered, edits, strict=True)])


def summarise(tasks: Sequence[ShapesTask], oracle: npt.NDArray[np.float64]) -> dict[str, float]:
    """Summary of an editor's oracle scores: success overall and per task, and how mixed its groups are.

    oracle: [N, K].
    """
    success = oracle >= SUCCESS_THRESHOLD
    per_task = {
        f"success_{name}": float(success[rows].mean())
        for name in TASKS
        if (rows := [i for i, task in enumerate(tasks) if task.task == name])
    }
    mixed = success.any(1) & ~success.all(1)
    return {
        "success": float(success.mean()),
        "oracle": float(oracle.mean()),
        "success_best_of_group": float(success.any(1).mean()),
        "mixed_groups": float(mixed.mean()),
        "std_within_group": float(oracle.std(1).mean()),
        **per_task,
    }
