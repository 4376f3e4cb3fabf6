"""The tiny judge: builds, saves and prepares inputs for a real Qwen2.5-VL checkpoint with 1 M parameters.

Each cell of a scene's 2x2 grid is one visual token (patch 8, merge 2), and each fixed sentence of the service's prompts
is one added token, so a prompt has about 40 tokens instead of a large judge's 200. Digits, Yes and No are one token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from edit_r1.reward_service.engines.chat import Chat
from edit_r1.reward_service.methods import METHODS
from edit_r1.reward_service.methods.base import Method
from edit_r1.reward_service.methods.templates import SYSTEM_PROMPT, TASKS_DIRECTORY, load_task_prompts, load_template
from edit_r1.reward_service.types import Brief, Edit, JudgeImage, Principle
from edit_r1.shared.schemas import DEFAULT_TASK
from edit_r1.worlds.shapes.training.judge_words import REASONING_START, SCORE_MARKER, reasoning_corpus
from edit_r1.worlds.shapes.world.scenes import SIZE, Pixels, to_image

HIDDEN = 128
NUM_LAYERS = 4
PATCH, MERGE = 8, 2
TOKENS_PER_IMAGE = (SIZE // PATCH // MERGE) ** 2
REQUIREMENTS = "\nRequirements: "
"""The first token after the whole instruction."""
END = "<|im_end|>"
CONTROL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    END,
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] in ('image', 'image_url') %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_processor() -> Qwen2_5_VLProcessor:
    """The judge's processor: resizes everything to 32x32; the prompts' fixed sentences are added tokens."""
    words = ["Yes", "No", REASONING_START, f'", {SCORE_MARKER}', *fixed_sentences()]
    return make_processor(make_tokenizer(reasoning_corpus(), words, vocab_size=480), longest_side=SIZE)


def make_processor(tokenizer: PreTrainedTokenizerFast, *, longest_side: int) -> Qwen2_5_VLProcessor:
    """Image processor for images of 32x32 up to longest_side squared, tokenizer and chat template."""
    pixels = {"shortest_edge": SIZE * SIZE, "longest_edge": longest_side * longest_side}
    images = Qwen2VLImageProcessor(patch_size=PATCH, merge_size=MERGE, temporal_patch_size=2, size=pixels)
    videos = Qwen2VLVideoProcessor(patch_size=PATCH, merge_size=MERGE)
    return Qwen2_5_VLProcessor(images, tokenizer, videos, chat_template=CHAT_TEMPLATE)


def make_tokenizer(corpus: Iterable[str], words: Sequence[str], *, vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE over a corpus, with one token per digit and `words` as added tokens."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(corpus, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        pad_token="<|endoftext|>",  # noqa: S106 - no password
        padding_side="left",
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(CONTROL_TOKENS)})
    tokenizer.add_tokens(list(words))
    return tokenizer


def fixed_sentences() -> list[str]:
    """The parts of the service's prompts that do not depend on the edit: lines of base prompts, and task prompts."""
    sentences = ["system\n", "user\n", "assistant\n", SYSTEM_PROMPT]
    for name in ("score", "score_cot", "yes_no"):
        sentences += sentences_of(name)
    return list(dict.fromkeys([*sentences, *load_task_prompts(TASKS_DIRECTORY).values()]))


def sentences_of(prompt: str) -> list[str]:
    """The fixed parts of a built-in base prompt: before, between and after its placeholders, the last by lines."""
    head, rest = load_template(prompt).split("{instruction}")
    between, tail = rest.split("{requirement}")
    return [head, between, *(f"\n{line}" for line in tail.split("\n") if line)]


def build_model(
    processor: Qwen2_5_VLProcessor, *, hidden: int = HIDDEN, initializer_range: float = 0.02
) -> Qwen2_5_VLForConditionalGeneration:
    """An untrained judge, initialised from torch's global generator. hidden: width, a multiple of 64."""
    tokenizer = processor.tokenizer
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in CONTROL_TOKENS}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "mrope_section": [hidden // 32, 3 * hidden // 64, 3 * hidden // 64],
            "rope_theta": 10_000.0,
        },
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": ids[END],
        "use_sliding_window": False,
        "initializer_range": initializer_range,
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 4,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "window_size": MERGE * PATCH,
        "out_hidden_size": hidden,
        "fullatt_block_indexes": [0, 1],
        "in_channels": 3,
        "temporal_patch_size": 2,
        "initializer_range": initializer_range,
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
        initializer_range=initializer_range,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = ids[END]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    return model


def save(model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, directory: Path) -> None:
    """Write a plain checkpoint directory, like those on the Hugging Face Hub."""
    model.save_pretrained(directory)
    processor.save_pretrained(directory)


class Prompts:
    """The service's prompts as this judge's token ids."""

    def __init__(self, processor: Qwen2_5_VLProcessor) -> None:
        self._chat = Chat(processor, "worlds/shapes/judge")
        self._image_id = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        blank = Image.new("RGB", (SIZE, SIZE))
        self._source, self._candidate = JudgeImage(blank, "source"), JudgeImage(blank, "candidate")

    def token_ids(self, method: str, instruction: str, requirement: str) -> list[int]:
        """Ids up to the start of the answer, with each image placeholder expanded to its tokens."""
        return self.of_method(METHODS[method], instruction, requirement)[0]

    def of_method(
        self, method: Method, instruction: str, requirement: str, principles: tuple[Principle, ...] = ()
    ) -> list[list[int]]:
        """The same for any method, once per question."""
        brief = Brief(instruction, requirement, DEFAULT_TASK, (self._source,))
        asked = method.ask(Edit(brief, self._candidate, principles))
        return [self._widened(self._chat.token_ids(question.messages)) for question in asked]

    def encode(self, text: str) -> list[int]:
        """Ids of a part of an answer."""
        return list(self._chat.encode(text))

    def _widened(self, ids: Iterable[int]) -> list[int]:
        return [one for i in ids for one in [i] * (TOKENS_PER_IMAGE if i == self._image_id else 1)]


def patches(processor: Qwen2_5_VLProcessor, pictures: Sequence[Pixels], chunk: int = 512) -> Tensor:
    """Inputs of the vision encoder, float32 [N, patches, values], from the judge's own image processor."""
    parts = []
    for start in range(0, len(pictures), chunk):
        images = [to_image(picture) for picture in pictures[start : start + chunk]]
        values = processor.image_processor(images=images, return_tensors="pt")["pixel_values"]
        parts.append(values.reshape(len(images), -1, values.shape[-1]))
    return torch.cat(parts)


def pad_left(sequences: Sequence[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Left-padded ids and mask, int64 [B, T]."""
    longest = max(map(len, sequences))
    ids = torch.tensor([[pad_id] * (longest - len(s)) + s for s in sequences])
    mask = torch.tensor([[0] * (longest - len(s)) + [1] * len(s) for s in sequences])
    return ids, mask


def grid(num_images: int) -> Tensor:
    """`image_grid_thw` of 32x32 images, int64 [N, 3]."""
    side = SIZE // PATCH
    return torch.from_numpy(np.tile([1, side, side], (num_images, 1)))
