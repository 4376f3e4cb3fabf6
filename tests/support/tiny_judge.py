"""Qwen2.5-VL and Qwen3-VL judges with random weights: the real classes and files, created in a second.

For tests in which the meaning of a score does not matter; for meaningful scores use `worlds/shapes/judge`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForImageTextToText,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from edit_r1.reward_service.methods.templates import PROMPTS_DIRECTORY
from edit_r1.worlds.shapes.training.judge_model import (
    CHAT_TEMPLATE,
    CONTROL_TOKENS,
    END,
    build_model,
    make_processor,
    make_tokenizer,
    save,
)

RANGE = 0.2
"""Range of the weights, large enough for images and words to affect the scores clearly."""


def save_tiny_judge(
    directory: Path, *, words: tuple[str, ...] = ("Yes", "No"), vocab_size: int = 600, seed: int = 0
) -> Path:
    """Write a Qwen2.5-VL checkpoint directory; `words` become single tokens, which digits always are."""
    processor = make_processor(judge_tokenizer(words, vocab_size), longest_side=64)
    torch.manual_seed(seed)
    save(build_model(processor, initializer_range=RANGE).eval(), processor, directory)
    return directory


def save_tiny_qwen3_judge(directory: Path, *, seed: int = 0) -> Path:
    """Write a Qwen3-VL checkpoint directory with deepstack and interleaved rope, like the large models."""
    tokenizer = judge_tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in CONTROL_TOKENS}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "mrope_section": [8, 4, 4],
            "mrope_interleaved": True,
            "rope_theta": 10_000.0,
        },
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": ids[END],
        "initializer_range": RANGE,
    }
    vision = {
        "depth": 3,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 4,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": 128,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
        "initializer_range": RANGE,
    }
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    size = {"shortest_edge": 32 * 32, "longest_edge": 128 * 128}
    images = Qwen2VLImageProcessor(patch_size=16, merge_size=2, temporal_patch_size=2, size=size)
    videos = Qwen3VLVideoProcessor(patch_size=16, merge_size=2)
    processor = Qwen3VLProcessor(images, tokenizer, videos, chat_template=CHAT_TEMPLATE)
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id = ids[END]
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


def save_random_adapter(judge: Path, directory: Path, *, seed: int = 0) -> Path:
    """Write a random LoRA for a judge's language model in PEFT's format; it changes scores clearly."""
    model = AutoModelForImageTextToText.from_pretrained(judge, dtype="float32")
    torch.manual_seed(seed)
    targets = r".*language_model.*(q_proj|v_proj|o_proj|up_proj|down_proj)"
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False))
    adapted.save_pretrained(str(directory))
    return directory


def judge_tokenizer(words: tuple[str, ...] = ("Yes", "No"), vocab_size: int = 600) -> PreTrainedTokenizerFast:
    prompts = [path.read_text(encoding="utf-8") for path in sorted(PROMPTS_DIRECTORY.glob("*.txt"))]
    prompts += [path.read_text(encoding="utf-8") for path in sorted((PROMPTS_DIRECTORY / "tasks").glob("*.txt"))]
    return make_tokenizer(prompts, words, vocab_size=vocab_size)
