"""A Qwen2.5-VL checkpoint directory with random weights: the real classes and files, made in a second.

For tests in which the meaning of a score does not matter; `worlds/shapes/judge` is the one that means something.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from reward_service.methods.templates import PROMPTS_DIRECTORY

_PATCH, _MERGE = 8, 2
_CONTROL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_tiny_judge(
    directory: Path, *, words: tuple[str, ...] = ("Yes", "No"), vocab_size: int = 600, seed: int = 0
) -> Path:
    """Write a checkpoint directory; `words` become tokens of their own, digits are single tokens anyway."""
    tokenizer = _tokenizer(words, vocab_size)
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(_config(tokenizer)).eval()
    model.save_pretrained(directory)
    images = Qwen2VLImageProcessor(
        patch_size=_PATCH, merge_size=_MERGE, size={"shortest_edge": 32 * 32, "longest_edge": 64 * 64}
    )
    videos = Qwen2VLVideoProcessor(patch_size=_PATCH, merge_size=_MERGE)
    processor = Qwen2_5_VLProcessor(images, tokenizer, videos, chat_template=_CHAT_TEMPLATE)
    processor.save_pretrained(directory)
    return directory


def _tokenizer(words: tuple[str, ...], vocab_size: int) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    prompts = [path.read_text(encoding="utf-8") for path in sorted(PROMPTS_DIRECTORY.rglob("*.txt"))]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(prompts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=_CONTROL[2], pad_token=_CONTROL[0])
    tokenizer.add_special_tokens({"additional_special_tokens": _CONTROL})
    tokenizer.add_tokens(list(words))
    return tokenizer


def _config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in _CONTROL}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,  # four heads of 32: the smallest that vLLM's CPU attention takes
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10_000.0},
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
        "use_sliding_window": False,
        "initializer_range": 0.2,  # large enough that pictures and words move the scores visibly
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 4,
        "patch_size": _PATCH,
        "spatial_merge_size": _MERGE,
        "window_size": _MERGE * _PATCH,
        "out_hidden_size": 128,
        "fullatt_block_indexes": [1],
        "in_channels": 3,
        "temporal_patch_size": 2,
        "initializer_range": 0.2,
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
