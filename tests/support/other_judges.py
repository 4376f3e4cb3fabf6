"""Judges of other families than Qwen2.5-VL and Qwen3-VL, with random weights: the real classes, built in a second.

`save_judge("gemma3", directory)` writes a checkpoint directory. Every family gets the same tokenizer and language model
size, and its own image processor, placeholder tokens and way to write a conversation.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    CLIPImageProcessor,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Glm4vImageProcessor,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    GotOcr2ImageProcessor,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from edit_r1.worlds.shapes.training.judge_model import CHAT_TEMPLATE, CONTROL_TOKENS, END
from tests.support.tiny_judge import RANGE, judge_tokenizer

_SIDE = 32
"""Side of the images that the vision encoders take, in pixels."""
_PATCH = 8
_TURNS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TEXT = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 4096,
    "bos_token_id": None,
    "initializer_range": RANGE,
}
_VISION = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": _SIDE,
    "patch_size": _PATCH,
    "initializer_range": RANGE,
}
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_MROPE = {**_ROPE, "mrope_section": [8, 4, 4], "mrope_interleaved": True}


def save_judge(family: str, directory: Path, *, seed: int = 0) -> Path:
    """Write a checkpoint of this family (a key of FAMILIES); returns the directory."""
    processor, config = FAMILIES[family]()
    tokenizer = processor.tokenizer
    text = config.get_text_config()
    text.vocab_size, text.eos_token_id = len(tokenizer), tokenizer.eos_token_id
    text.pad_token_id = tokenizer.pad_token_id
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    _name_as_published(directory / "model.safetensors", family)
    return directory


def _name_as_published(path: Path, family: str) -> None:
    """Rewrite weights that transformers 5 names or turns otherwise than the published checkpoints, which vLLM reads."""
    published = load_file(path)
    if family in ("gemma3", "llava"):
        published = {
            name.replace("vision_tower.", "vision_tower.vision_model."): one for name, one in published.items()
        }
    if family == "qwen3_vl_moe":
        experts = {name for name in published if ".experts." in name}
        published |= {name: published[name].transpose(1, 2).contiguous() for name in experts}
    save_file(published, path, metadata={"format": "pt"})


def _gemma3() -> tuple[Any, Any]:
    tokenizer = _tokenizer(
        {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    )
    tokenizer.add_tokens(["\n" * number for number in range(1, 5)])  # vLLM looks them up
    images = Gemma3ImageProcessor(size={"height": _SIDE, "width": _SIDE}, image_seq_length=4)
    processor = Gemma3Processor(images, tokenizer, _turns("<start_of_image>"), image_seq_length=4)
    config = AutoConfig.for_model(
        "gemma3",
        # Gemma normalises what layers add, so smaller weights are enough, and larger ones drown it in the embeddings.
        text_config={
            **_TEXT,
            "num_hidden_layers": 3,
            "sliding_window": 64,
            "sliding_window_pattern": 3,
            "initializer_range": 0.03,
        },
        vision_config=_VISION,
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
    )
    return processor, config


def _internvl() -> tuple[Any, Any]:
    tokenizer = _tokenizer(
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        }
    )
    images = GotOcr2ImageProcessor(size={"height": _SIDE, "width": _SIDE}, max_patches=4)
    videos = InternVLVideoProcessor(size={"height": _SIDE, "width": _SIDE})
    processor = InternVLProcessor(
        images, tokenizer, videos, image_seq_length=4, chat_template=_turns("<IMG_CONTEXT>\n")
    )
    config = AutoConfig.for_model(
        "internvl",
        text_config={**_TEXT, "model_type": "qwen2", "rope_parameters": _ROPE},
        vision_config={**_VISION, "image_size": [_SIDE, _SIDE], "patch_size": [_PATCH, _PATCH]},
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=4,
    )
    return processor, config


def _glm4v() -> tuple[Any, Any]:
    marks = {
        "image_start_token_id": "<|begin_of_image|>",
        "image_end_token_id": "<|end_of_image|>",
        "video_start_token_id": "<|begin_of_video|>",
        "video_end_token_id": "<|end_of_video|>",
        "image_token_id": "<|image|>",
        "video_token_id": "<|video|>",
    }
    tokenizer = _tokenizer({name.removesuffix("_id"): text for name, text in marks.items()})
    size = {"shortest_edge": _SIDE * _SIDE, "longest_edge": 2 * 64 * 64}
    images = Glm4vImageProcessor(patch_size=_PATCH, merge_size=2, temporal_patch_size=2, size=size)
    videos = Glm4vVideoProcessor(patch_size=_PATCH, merge_size=2, temporal_patch_size=2, size=size)
    turns = _turns("<|begin_of_image|><|image|><|end_of_image|>")
    processor = Glm4vProcessor(images, tokenizer, videos, chat_template=turns)
    config = AutoConfig.for_model(
        "glm4v",
        text_config={
            **{name: value for name, value in _TEXT.items() if name != "head_dim"},
            "rope_parameters": {**_ROPE, "mrope_section": [8, 4, 4], "partial_rotary_factor": 1.0},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 4,
            "image_size": 64,
            "patch_size": _PATCH,
            "out_hidden_size": 128,
            "initializer_range": RANGE,
        },
        **{name: tokenizer.convert_tokens_to_ids(text) for name, text in marks.items()},
    )
    return processor, config


def _idefics3() -> tuple[Any, Any]:
    rows = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    tokenizer = _tokenizer(
        {
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        }
    )
    tokenizer.add_tokens(rows, special_tokens=True)
    images = Idefics3ImageProcessor(
        size={"longest_edge": 2 * _SIDE}, max_image_size={"longest_edge": _SIDE}, do_image_splitting=True
    )
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=_turns("<image>"))
    config = AutoConfig.for_model(
        "idefics3",
        text_config={**_TEXT, "model_type": "llama", "rope_parameters": _ROPE},
        vision_config=_VISION,
        image_token_id=tokenizer.image_token_id,
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    return processor, config


def _llava() -> tuple[Any, Any]:
    tokenizer = _tokenizer({"image_token": "<image>"})
    side = {"height": _SIDE, "width": _SIDE}
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": _SIDE}, crop_size=side),
        tokenizer,
        patch_size=_PATCH,
        vision_feature_select_strategy="default",
        chat_template=_turns("<image>\n"),
        num_additional_image_tokens=1,
    )
    config = AutoConfig.for_model(
        "llava",
        text_config={**_TEXT, "model_type": "llama", "rope_parameters": _ROPE},
        vision_config={**_VISION, "model_type": "clip_vision_model", "projection_dim": 64},
        image_token_index=tokenizer.image_token_id,
        image_seq_length=(_SIDE // _PATCH) ** 2,
        vision_feature_layer=-1,
    )
    return processor, config


def _qwen3_vl_moe() -> tuple[Any, Any]:
    return _qwen3(
        "qwen3_vl_moe",
        # norm_topk_prob: written in published checkpoints; transformers always does it, vLLM asks for it.
        text={
            "norm_topk_prob": True,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 96,
            "rope_parameters": _MROPE,
        },
        vision={"deepstack_visual_indexes": [0, 1]},
    )


def _qwen3_5() -> tuple[Any, Any]:
    text = {
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "layer_types": ["linear_attention", "full_attention"],
        "rope_parameters": {**_MROPE, "partial_rotary_factor": 1.0},
    }
    return _qwen3("qwen3_5", text=text, vision={})


def _qwen3(model_type: str, *, text: dict[str, Any], vision: dict[str, Any]) -> tuple[Any, Any]:
    tokenizer = judge_tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in CONTROL_TOKENS}
    size = {"shortest_edge": 32 * 32, "longest_edge": 128 * 128}
    images = Qwen2VLImageProcessor(patch_size=16, merge_size=2, temporal_patch_size=2, size=size)
    videos = Qwen3VLVideoProcessor(patch_size=16, merge_size=2)
    config = AutoConfig.for_model(
        model_type,
        text_config={**_TEXT, **text},
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 4,
            "out_hidden_size": 128,
            "num_position_embeddings": 64,
            "initializer_range": RANGE,
            **vision,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    return Qwen3VLProcessor(images, tokenizer, videos, chat_template=CHAT_TEMPLATE), config


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "gemma3": _gemma3,
    "glm4v": _glm4v,
    "idefics3": _idefics3,
    "internvl": _internvl,
    "llava": _llava,
    "qwen3_5": _qwen3_5,
    "qwen3_vl_moe": _qwen3_vl_moe,
}
"""Builders of (processor, configuration) by family."""


def _turns(image: str) -> str:
    return _TURNS.replace("IMAGE", image)


def _tokenizer(marks: dict[str, str]) -> PreTrainedTokenizerFast:
    """The judges' tokenizer with the family's special tokens, which are also its attributes."""
    return PreTrainedTokenizerFast(
        tokenizer_object=judge_tokenizer().backend_tokenizer,
        eos_token=END,
        pad_token="<|endoftext|>",  # noqa: S106 - no password
        padding_side="left",
        extra_special_tokens=marks,
    )
