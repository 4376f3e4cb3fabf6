"""Judges with random weights for benchmarks: real classes and files, generated on the fly.

`small` has the geometry of Qwen2.5-VL (patch 14, merge 2, 256 visual tokens at 448x448) with 11 M parameters: an amount
of work per image that suits a CPU. `7b` is Qwen2.5-VL-7B itself, for a GPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    GenerationConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
)
from transformers import Qwen2VLVideoProcessor as VideoProcessor

from edit_r1.reward_service.engines.chat import Chat
from edit_r1.reward_service.engines.checkpoint import Checkpoint
from edit_r1.reward_service.methods.templates import PROMPTS_DIRECTORY
from edit_r1.worlds.shapes.training.judge_model import CHAT_TEMPLATE, CONTROL_TOKENS, END, make_tokenizer

SIZES = ("small", "7b")
PATCH, MERGE = 14, 2
_MAX_TOKENS = 32_768
_SMALL_TEXT = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "mrope_section": [8, 12, 12],
}
_SMALL_VISION = {
    "depth": 4,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_heads": 4,
    "fullatt_block_indexes": [1, 3],
}
_7B_TEXT = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "mrope_section": [16, 24, 24],
}
_7B_VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
_GEOMETRY = {"small": (_SMALL_TEXT, _SMALL_VISION, 2048), "7b": (_7B_TEXT, _7B_VISION, 152_064)}


def save_random_judge(directory: Path, size: str, seed: int = 0) -> Path:
    """Write a checkpoint directory of one of SIZES; returns it."""
    model, processor = random_judge(size, seed)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


def random_checkpoint(size: str, seed: int = 0) -> Checkpoint:
    """A judge of one of SIZES, ready to serve without a detour over the disk."""
    model, processor = random_judge(size, seed)
    end_ids = (int(model.generation_config.eos_token_id),)
    model.generation_config = GenerationConfig()
    model.requires_grad_(requires_grad=False)
    return Checkpoint(model, Chat(processor, f"random {size}"), end_ids, _MAX_TOKENS)


def random_judge(size: str, seed: int = 0) -> tuple[Any, Qwen2_5_VLProcessor]:
    """Model and processor; the model of a real size is bfloat16, and on a GPU if there is one."""
    text, vision, vocab_size = _GEOMETRY[size]
    prompts = [path.read_text(encoding="utf-8") for path in sorted(PROMPTS_DIRECTORY.rglob("*.txt"))]
    tokenizer = make_tokenizer(prompts, ("Yes", "No"), vocab_size=1500)
    pixels = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}
    images = Qwen2VLImageProcessor(patch_size=PATCH, merge_size=MERGE, temporal_patch_size=2, size=pixels)
    processor = Qwen2_5_VLProcessor(
        images, tokenizer, VideoProcessor(patch_size=PATCH, merge_size=MERGE), chat_template=CHAT_TEMPLATE
    )
    torch.manual_seed(seed)
    return _model(processor, text, vision, vocab_size), processor


def _model(
    processor: Qwen2_5_VLProcessor, text: dict[str, object], vision: dict[str, object], vocab_size: int
) -> Qwen2_5_VLForConditionalGeneration:
    ids = {name: processor.tokenizer.convert_tokens_to_ids(name) for name in CONTROL_TOKENS}
    text = dict(text)
    rope = {"rope_type": "default", "mrope_section": text.pop("mrope_section"), "rope_theta": 1_000_000.0}
    config = AutoConfig.for_model(
        "qwen2_5_vl",
        text_config={
            **text,
            "vocab_size": vocab_size,
            "max_position_embeddings": _MAX_TOKENS,
            "rope_parameters": rope,
            "bos_token_id": None,
            "eos_token_id": ids[END],
        },
        vision_config={
            **vision,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "window_size": 112,
            "out_hidden_size": text["hidden_size"],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    large = vocab_size > 100_000
    # Initialise large weights on the target device in the target dtype: 7 B float32 numbers on a CPU take minutes.
    torch.set_default_dtype(torch.bfloat16 if large else torch.float32)
    with torch.device("cuda" if large and torch.cuda.is_available() else "cpu"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    model.generation_config.eos_token_id = ids[END]
    return model.eval()
