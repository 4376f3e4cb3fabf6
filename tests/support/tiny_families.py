"""Tiny editors of the other families with random weights: the real classes, to test their common contract."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
)
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from edit_r1.worlds.shapes.training.judge_model import (
    CHAT_TEMPLATE,
    HIDDEN,
    build_model,
    make_processor,
    make_tokenizer,
)
from examples.uniworld_style import Connector
from tests.support.tiny_editor import build_tiny_editor

WORDS = ("make the circle red", "remove the square", "Picture 1:", "a plain image to describe")
LATENT_CHANNELS = 4
_DYNAMIC_SHIFT = {
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 0.9,
    "base_image_seq_len": 256,
    "max_image_seq_len": 8192,
}


def build_tiny_qwen(directory: Path, *, seed: int = 0) -> Path:
    """Save a random QwenImageEditPipeline with 8x8 pixels per token."""
    return _build_qwen(QwenImageEditPipeline, directory, seed, zero_cond_t=False)


def build_tiny_qwen_plus(directory: Path, *, seed: int = 0) -> Path:
    """Save a random QwenImageEditPlusPipeline like version 2511, which modulates sources as clean."""
    return _build_qwen(QwenImageEditPlusPipeline, directory, seed, zero_cond_t=True)


def build_tiny_flux2(directory: Path, *, seed: int = 0) -> Path:
    """Save a random, distilled Flux2KleinPipeline with 8x8 pixels per token."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer("right")
    tokenizer.chat_template = CHAT_TEMPLATE
    text_encoder = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=28,  # the pipeline reads the 9th, 18th and 27th
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            initializer_range=0.2,
        )
    )
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        layers_per_block=1,
    )
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 1.5)
    transformer = Flux2Transformer2DModel(
        patch_size=1,
        in_channels=4 * LATENT_CHANNELS,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=32,
        axes_dims_rope=(8, 8, 8, 8),
        guidance_embeds=False,
    )
    Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, **_DYNAMIC_SHIFT),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=True,
    ).save_pretrained(directory)
    return directory


def _build_qwen(
    pipeline: type[QwenImageEditPipeline | QwenImageEditPlusPipeline], directory: Path, seed: int, *, zero_cond_t: bool
) -> Path:
    torch.manual_seed(seed)
    processor = make_processor(_tokenizer("left"), longest_side=64)
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.8, 1.2, 1.0],
    )
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=4 * LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=2,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=HIDDEN,
        axes_dims_rope=(8, 12, 12),
        zero_cond_t=zero_cond_t,
    )
    pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0, shift_terminal=0.02, **_DYNAMIC_SHIFT),
        vae=vae,
        text_encoder=build_model(processor, initializer_range=0.2).eval(),
        tokenizer=processor.tokenizer,
        processor=processor,
        transformer=transformer,
    ).save_pretrained(directory)
    return directory


def _tokenizer(padding_side: str) -> PreTrainedTokenizerFast:
    tokenizer = make_tokenizer(WORDS, (), vocab_size=300)
    tokenizer.padding_side = padding_side
    return tokenizer


def build_tiny_uniworld(directory: Path, *, seed: int = 0) -> Path:
    """Save a random pipeline for examples/uniworld_style.py, which is not in diffusers."""
    build_tiny_editor(directory / "editor", seed=seed)
    for part in ("transformer", "vae", "scheduler"):
        (directory / "editor" / part).rename(directory / part)
    shutil.rmtree(directory / "editor")
    torch.manual_seed(seed)
    processor = make_processor(make_tokenizer(WORDS, [], vocab_size=300), longest_side=128)
    language = build_model(processor, initializer_range=0.2)
    language.save_pretrained(directory / "language_model")
    processor.save_pretrained(directory / "language_model")
    config = FluxTransformer2DModel.load_config(directory / "transformer")
    connector = Connector(HIDDEN, config["joint_attention_dim"], config["pooled_projection_dim"])
    save_file(connector.state_dict(), directory / "connector.safetensors")
    return directory
