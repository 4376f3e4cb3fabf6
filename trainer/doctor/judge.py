"""Whether a judge that vLLM serves fits the GPU memory it gets, and with how many GPUs."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from edit_r1.shared.errors import ConfigError
from edit_r1.trainer.doctor.estimates import JudgeShape, judge_memory
from edit_r1.trainer.doctor.needs import Finding
from edit_r1.trainer.doctor.planning import Gpus, num_parameters

JUDGE_TOKENS = 8192
"""Tokens of prompt and answer that a judge must be able to take: two images of one megapixel are about 3,000."""
_SHARE = 0.9
"""The service's default for `--gpu-memory-utilization`."""
_GPUS_PER_JUDGE = (1, 2, 4, 8)


def judge_shape(model: str) -> JudgeShape:
    """A judge's sizes, from its configuration; no weights are read.

    Raises:
        ConfigError: there is no configuration of a vision-language model at `model`.

    """
    try:
        config = AutoConfig.from_pretrained(model)
        with torch.device("meta"):
            skeleton = AutoModelForImageTextToText.from_config(config)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--judge: {model} has no configuration of a vision-language model: {error}") from error
    text = config.get_text_config()
    return JudgeShape(
        parameters=num_parameters(skeleton),
        num_blocks=text.num_hidden_layers,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head_size=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
    )


def judge_fits(name: str, shape: JudgeShape, gpus: Gpus) -> Iterator[Finding]:
    """Whether the judge fits into the trainer's GPUs, if it has a part of each, or how many of its own it needs."""
    if gpus.judge_gigabytes:
        share = gpus.judge_gigabytes / gpus.gigabytes
        needed = sum(judge_memory(shape, JUDGE_TOKENS, 1).values()) / 1e9
        told = f"{_told(name, shape, 1)}; it gets {gpus.judge_gigabytes:g} (--gpu-memory-utilization {share:.2f})"
        fits = needed <= gpus.judge_gigabytes
        yield "ok" if fits else "FAIL", told if fits else f"{told}: give it more (--judge-memory) or GPUs of its own"
        return
    limit = gpus.gigabytes * _SHARE
    possible = [split for split in _GPUS_PER_JUDGE if shape.heads % split == 0]
    for split in possible:
        if sum(judge_memory(shape, JUDGE_TOKENS, split).values()) / 1e9 <= limit:
            option = f"; start it with --tensor-parallel-size {split}" if split > 1 else ""
            yield "ok", f"{_told(name, shape, split)} of {limit:.1f} usable{option}"
            return
    yield "FAIL", f"{_told(name, shape, possible[-1])}, more than {limit:.1f}: use larger GPUs or a smaller judge"


def _told(name: str, shape: JudgeShape, split: int) -> str:
    parts = {part: num_bytes / 1e9 for part, num_bytes in judge_memory(shape, JUDGE_TOKENS, split).items()}
    listed = ", ".join(f"{part} {gigabytes:.1f}" for part, gigabytes in parts.items())
    gpus = f"each of {split} GPUs" if split > 1 else "a GPU"
    return f"judge {name} needs {sum(parts.values()):.1f} GB on {gpus} ({listed})"
