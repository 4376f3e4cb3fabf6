"""The real vocabulary of Qwen judges: 151,643 entries, from the resources of the package `dashscope`; no weights.

tokenizer = qwen_tokenizer(cache)
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from edit_r1.worlds.shapes.training.judge_model import CONTROL_TOKENS, END

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
THINKING = ("<think>", "</think>")
NUM_ENTRIES = 151_643


def qwen_tokenizer(cache: Path) -> PreTrainedTokenizerFast:
    """Qwen's tokenizer with the control tokens of its vision-language models; converted once per cache directory."""
    if not (cache / "tokenizer.json").exists():
        _convert().save_pretrained(cache)
    return PreTrainedTokenizerFast.from_pretrained(cache)


def _convert() -> PreTrainedTokenizerFast:
    spec = importlib.util.find_spec("dashscope")  # located, not imported
    assert spec is not None
    assert spec.origin is not None
    entries = Path(spec.origin).parent / "resources" / "qwen.tiktoken"
    core = TikTokenConverter(vocab_file=str(entries), pattern=PATTERN).converted()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        pad_token="<|endoftext|>",  # noqa: S106 - no password
        padding_side="left",
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(CONTROL_TOKENS)})
    tokenizer.add_tokens(list(THINKING))  # part of the text, as in the real tokenizer
    return tokenizer
