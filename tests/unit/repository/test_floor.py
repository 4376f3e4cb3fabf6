"""The benchmark's operation counts match PyTorch's counts on the real classes."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2_5_VLForConditionalGeneration

from benchmarks.floor import Judge, Tower
from benchmarks.support.judges import save_random_judge

SIDE, TOKENS = 448, 300  # 448 is a whole number of windows


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Qwen2_5_VLForConditionalGeneration:
    directory = save_random_judge(Path(tmp_path_factory.mktemp("judge")), "small")
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(directory, attn_implementation="eager")


@pytest.fixture(scope="module")
def judge(model) -> Judge:
    text, vision = model.config.text_config, model.config.vision_config
    size = text.hidden_size // text.num_attention_heads
    return Judge(
        "small",
        Tower(
            text.num_hidden_layers,
            text.hidden_size,
            text.intermediate_size,
            text.num_attention_heads,
            text.num_key_value_heads,
            size,
        ),
        Tower(
            vision.depth,
            vision.hidden_size,
            vision.intermediate_size,
            vision.num_heads,
            vision.num_heads,
            vision.hidden_size // vision.num_heads,
        ),
        text.vocab_size,
        vision.patch_size,
        windowed_layers=vision.depth - len(vision.fullatt_block_indexes),
    )


@torch.no_grad()
def test_vision(model, judge):
    patches = SIDE // judge.patch
    pixels = torch.zeros(patches**2, 3 * 2 * judge.patch**2)
    with FlopCounterMode(display=False) as counted:
        model.model.visual(pixels, grid_thw=torch.tensor([[1, patches, patches]]))
    assert counted.get_total_flops() == pytest.approx(judge.vision_flops(SIDE), rel=1e-3)


@torch.no_grad()
def test_text(model, judge):
    embeddings = torch.zeros(1, TOKENS, judge.text.width)
    with FlopCounterMode(display=False) as counted:
        model.model.language_model(inputs_embeds=embeddings, use_cache=False)
    # PyTorch counts the pairs that a causal mask hides as well.
    full = judge.text.layers * judge.text.block_flops(TOKENS, TOKENS**2)
    assert counted.get_total_flops() == pytest.approx(full, rel=1e-3)
    whole, last = judge.text_flops(TOKENS), 2 * judge.vocabulary * judge.text.width
    assert whole < full + last
    # A cached prefix is computed only once.
    assert judge.text_flops(100) + judge.text_flops(TOKENS - 100, cached=100) - last == pytest.approx(whole)
