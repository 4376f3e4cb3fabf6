"""A tiny FluxKontextPipeline with random weights: the real classes, for tests in which meaning does not matter."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL

from edit_r1.worlds.shapes.training.editor_model import Sizes, build_pipeline, build_tokenizer

WORDS = ("make", "the", "circle", "square", "red", "green", "blue", "remove", "add", "a", "background", "it")
SIZES = Sizes(pooled=16, joint=32, t5_layers=1, t5_heads=2, double_blocks=1, single_blocks=2, heads=2)


def build_tiny_editor(directory: Path, *, seed: int = 0) -> Path:
    """Save a random pipeline for 32x32 images (8x8 latents, 16 tokens)."""
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
        shift_factor=0.1,
        scaling_factor=0.7,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    build_pipeline(vae, build_tokenizer(WORDS), SIZES).save_pretrained(directory)
    return directory
