"""A Qwen2.5-VL checkpoint directory with random weights: the real classes and files, made in a second.

For tests in which the meaning of a score does not matter; `worlds/shapes/judge` is the one that means something.
"""

from __future__ import annotations

from pathlib import Path

import torch

from reward_service.methods.templates import PROMPTS_DIRECTORY
from worlds.shapes.judge_model import build_model, make_processor, make_tokenizer, save


def save_tiny_judge(
    directory: Path, *, words: tuple[str, ...] = ("Yes", "No"), vocab_size: int = 600, seed: int = 0
) -> Path:
    """Write a checkpoint directory; `words` become tokens of their own, digits are single tokens anyway."""
    prompts = [path.read_text(encoding="utf-8") for path in sorted(PROMPTS_DIRECTORY.rglob("*.txt"))]
    processor = make_processor(make_tokenizer(prompts, words, vocab_size=vocab_size), longest_side=64)
    torch.manual_seed(seed)
    # Large enough that pictures and words move the scores visibly.
    save(build_model(processor, initializer_range=0.2).eval(), processor, directory)
    return directory
