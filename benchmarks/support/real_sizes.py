"""FLUX.1-Kontext at its real size without weights: the files needed by `edit-r1 doctor` and for random weights.

python -m benchmarks.support.real_sizes DIRECTORY     # configurations and the demo world's tokenizers, a few kilobytes
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from edit_r1.shared.files import write_json
from edit_r1.worlds.shapes.demo import HERE

TRANSFORMER = {
    "_class_name": "FluxTransformer2DModel",
    "attention_head_dim": 128,
    "axes_dims_rope": [16, 56, 56],
    "guidance_embeds": True,
    "in_channels": 64,
    "joint_attention_dim": 4096,
    "num_attention_heads": 24,
    "num_layers": 19,
    "num_single_layers": 38,
    "patch_size": 1,
    "pooled_projection_dim": 768,
}
VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "latent_channels": 16,
    "layers_per_block": 2,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
T5 = {
    "model_type": "t5",
    "architectures": ["T5EncoderModel"],
    "d_ff": 10240,
    "d_kv": 64,
    "d_model": 4096,
    "feed_forward_proj": "gated-gelu",
    "num_heads": 64,
    "num_layers": 24,
    "vocab_size": 32128,
}
CLIP = {
    "model_type": "clip_text_model",
    "architectures": ["CLIPTextModel"],
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "projection_dim": 768,
    "vocab_size": 49408,
}


def write_kontext(directory: Path) -> Path:
    """Write a pipeline directory of FLUX.1-Kontext [dev]'s sizes without weights; returns it."""
    small = HERE / "editor"
    for part in ("scheduler", "tokenizer", "tokenizer_2"):
        shutil.copytree(small / part, directory / part, dirs_exist_ok=True)
    shutil.copy(small / "model_index.json", directory)
    parts = {"transformer": TRANSFORMER, "vae": VAE, "text_encoder": CLIP, "text_encoder_2": T5}
    for part, config in parts.items():
        write_json(directory / part / "config.json", config)
    return directory


if __name__ == "__main__":
    print(write_kontext(Path(sys.argv[1])))
