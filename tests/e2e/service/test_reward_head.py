"""`reward_head` on random checkpoints: its scores are arithmetic on the hidden states of plain transformers."""

import asyncio
import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from edit_r1.reward_service.measures.reward_head import RewardHead
from edit_r1.shared.client import RewardClient
from edit_r1.shared.errors import ConfigError
from edit_r1.shared.schemas import CandidateError, EditGroup
from tests.support.serving import picture, png, reward_service

TOKEN = "<|Reward|>"  # noqa: S105 - no password
PROMPTS = {
    "following": "Was this done: {instruction}?\n<|Reward|>\n",
    "quality": "{instruction}: is it sharp? <|Reward|>",
}
INSTRUCTION = "make it blue"
DIMENSIONS = {
    name: {"prompt": f"{name}.txt", "head": f"rm_heads.head_{i}", "output": 0, "log_sigma": 1}
    for i, name in enumerate(PROMPTS)
}
HEAD_FILE = {
    "dimensions": DIMENSIONS,
    "token": TOKEN,
    "positions": "sequential",
    "map": {"kind": "sigmoid", "center": 0.1, "scale": 2.0},
}
SIDES = (32, 64)


def heads(width: int) -> dict[str, torch.Tensor]:
    """Two heads of three layers, with the names that torch gives to linear layers with ReLU and dropout between."""
    torch.manual_seed(1)
    sizes = {"0": (16, width), "3": (8, 16), "5": (2, 8)}
    found = {}
    for head in ("rm_heads.head_0", "rm_heads.head_1"):
        for layer, shape in sizes.items():
            found[f"{head}.{layer}.weight"] = torch.randn(shape) / shape[1] ** 0.5
            found[f"{head}.{layer}.bias"] = torch.randn(shape[0])
    return found


def add_token(processor):
    processor.tokenizer.add_special_tokens({"additional_special_tokens": [TOKEN]}, replace_extra_special_tokens=False)


@pytest.fixture(scope="module")
def checkpoint(tiny_judge, tmp_path_factory):
    """As EditReward is published: a token more in the embedding than in the base model's config and tokenizer."""
    directory = tmp_path_factory.mktemp("reward") / "head"
    shutil.copytree(tiny_judge, directory)
    model = AutoModelForImageTextToText.from_pretrained(tiny_judge, dtype="float32")
    processor = AutoProcessor.from_pretrained(tiny_judge)
    add_token(processor)
    torch.manual_seed(2)
    model.resize_token_embeddings(len(processor.tokenizer), mean_resizing=False)
    model.save_pretrained(directory)
    shutil.copy(tiny_judge / "config.json", directory)
    tensors = load_file(directory / "model.safetensors")
    save_file(tensors | heads(model.config.get_text_config().hidden_size), directory / "model.safetensors")
    (directory / "head.json").write_text(json.dumps(HEAD_FILE))
    for name, text in PROMPTS.items():
        (directory / f"{name}.txt").write_text(text)
    return directory


def by_hand(directory, seeds, *, sequential=True, token=TOKEN):
    """Each candidate's (mean, log sigma) of every head, one forward pass at a time."""
    config = AutoConfig.from_pretrained(directory)
    tensors = load_file(directory / "model.safetensors")
    rows = next(one for name, one in tensors.items() if name.endswith("embed_tokens.weight")).shape[0]
    config.get_text_config().vocab_size = rows
    model = AutoModelForImageTextToText.from_pretrained(directory, config=config, dtype="float32")
    processor = AutoProcessor.from_pretrained(directory)
    if token:
        add_token(processor)
    found = []
    for seed, side in seeds:
        row = {}
        for i, (name, prompt) in enumerate(PROMPTS.items()):
            content = [{"type": "image"}] * 2 + [{"type": "text", "text": prompt.replace("{instruction}", INSTRUCTION)}]
            text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            inputs = processor(text=[text], images=[[picture(7), picture(seed, side)]], return_tensors="pt")
            length = inputs["input_ids"].shape[1]
            places = {"position_ids": torch.arange(length).expand(3, 1, -1)} if sequential else {}
            with torch.no_grad():
                hidden = model(**inputs, **places, output_hidden_states=True).hidden_states[-1][0]
            wanted = processor.tokenizer.convert_tokens_to_ids(token) if token else None
            at = inputs["input_ids"][0].tolist().index(wanted) if token else -1
            value = hidden[at].double()
            for layer in ("0", "3", "5"):
                weight, bias = (tensors[f"rm_heads.head_{i}.{layer}.{part}"].double() for part in ("weight", "bias"))
                value = weight @ value + bias
                value = value.clamp(min=0) if layer != "5" else value
            row[name] = value.tolist()
        found.append(row)
    return found


def service(directory, **options):
    options = {"head": {"model": str(directory), **options}}
    return reward_service(directory, engine="none", methods={"head": "reward_head"}, method_options=options)


def score(url, instruction=INSTRUCTION, **options):
    async def ask():
        candidates = tuple(png(seed, side) for seed, side in enumerate(SIDES))
        group = EditGroup(instruction=instruction, sources=(png(7),), candidates=candidates, method="head", **options)
        async with RewardClient(url) as client:
            return await client.score(group)

    return asyncio.run(ask()).results


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def test_a_score_is_arithmetic_on_hidden_states(checkpoint):
    """Padded in one batch, at the position of the token, with the positions that the published code has."""
    expected = by_hand(checkpoint, list(enumerate(SIDES)))
    with service(checkpoint) as url:
        found = score(url)
        (refused, _) = score(url, instruction=f"make it {TOKEN}")
    for result, row in zip(found, expected, strict=True):
        values = {name: mean for name, (mean, _) in row.items()}
        assert result.details["values"] == pytest.approx(values, abs=1e-5)
        sigmas = {name: math.exp(log_sigma) for name, (_, log_sigma) in row.items()}
        assert result.details["sigmas"] == pytest.approx(sigmas, abs=1e-4)
        assert result.score == pytest.approx(sigmoid((sum(values.values()) / 2 - 0.1) / 2), abs=1e-5)
        parts = {name: sigmoid((value - 0.1) / 2) for name, value in values.items()}
        assert result.details["parts"] == pytest.approx(parts, abs=1e-5)
    assert isinstance(refused, CandidateError)
    assert "the instruction contains the control token <|Reward|>" in refused.error.message


def test_the_last_token_two_dimensional_positions_and_a_linear_map(checkpoint, tmp_path):
    directory = shutil.copytree(checkpoint, tmp_path / "head")
    dimensions = {name: {**one, "log_sigma": None} for name, one in DIMENSIONS.items()}
    linear = {"kind": "linear", "min": -3, "max": 3}
    other = {"token": None, "positions": "multimodal", "map": linear, "combine": "min", "dimensions": dimensions}
    (directory / "head.json").write_text(json.dumps(HEAD_FILE | other))
    expected = by_hand(directory, list(enumerate(SIDES)), sequential=False, token=None)
    with service(directory, max_batch=1) as url:
        for result, row in zip(score(url), expected, strict=True):
            least = min(mean for mean, _ in row.values())
            assert result.score == pytest.approx(min(1, max(0, (least + 3) / 6)), abs=1e-5)
            assert "sigmas" not in result.details


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"map": {"kind": "linear", "min": 1, "max": 1}}, "min 1 must be below max 1"),
        ({"map": {"kind": "cubic"}, "token": 3}, "token: Input should be a valid string"),
        ({"dimensions": {"a": {"prompt": "none.txt"}}}, "none.txt cannot be read"),
        ({"token": "<|Score|>"}, "expected the token <|Score|> of head.json once"),
        ({"dimensions": {"a": {"prompt": "quality.txt"}}}, "no weights rm_head.*; heads in the checkpoint: rm_heads"),
        ({"dimensions": {"a": {"prompt": "quality.txt", "head": "rm_heads.head_0", "output": 2}}}, "reads output 2"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(checkpoint, tmp_path, changes, message):
    for path in checkpoint.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "head.json").unlink()
    (tmp_path / "head.json").write_text(json.dumps(HEAD_FILE | changes))
    with pytest.raises(ConfigError) as caught:
        RewardHead(str(tmp_path)).load()
    assert message in str(caught.value)


def test_missing_weights_are_refused_not_invented(checkpoint, tmp_path):
    directory = shutil.copytree(checkpoint, tmp_path / "head")
    tensors = load_file(directory / "model.safetensors")
    lost = next(name for name in tensors if name.endswith("layers.0.self_attn.q_proj.weight"))
    save_file({name: one for name, one in tensors.items() if name != lost}, directory / "model.safetensors")
    with pytest.raises(ConfigError, match=r"lacks .*layers\.0\.self_attn\.q_proj\.weight"):
        RewardHead(str(directory)).load()
