"""What keeps a checkpoint from being a judge, and options that the engine would ignore, are named before loading."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoProcessor, Qwen2Config

from edit_r1.reward_service.engines.base import EngineOptions
from edit_r1.reward_service.engines.chat import Chat
from edit_r1.reward_service.engines.factory import build_engine
from edit_r1.reward_service.types import JudgeImage, Message
from edit_r1.shared.errors import ConfigError, UnsuitableModelError
from edit_r1.worlds.shapes.training.judge_model import CHAT_TEMPLATE
from tests.support.serving import picture
from tests.support.tiny_judge import judge_tokenizer

NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + CHAT_TEMPLATE
DROPS_SYSTEM = CHAT_TEMPLATE.replace("for message in messages", "for message in messages if message.role != 'system'")
ASKED = (Message("system", ("Be fair.",)), Message("user", (JudgeImage(picture(0, 32), "a"), "Which digit?")))


@pytest.fixture
def checkpoint(tiny_judge: Path, tmp_path: Path) -> Path:
    """A copy of the tiny judge without its weights: nothing here may need them."""
    directory = tmp_path / "judge"
    shutil.copytree(tiny_judge, directory, ignore=shutil.ignore_patterns("*.safetensors"))
    return directory


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM])
def test_a_template_without_system_turns_gets_the_system_text_in_the_users(tiny_judge, template):
    processor = AutoProcessor.from_pretrained(tiny_judge)
    processor.chat_template = template
    text = Chat(processor, "tiny").text(ASKED)
    assert text.startswith("<|im_start|>user\nBe fair.\n\n<|vision_start|>")
    assert "Which digit?" in text


@pytest.mark.parametrize(
    ("template", "missing"),
    [
        (None, "has no chat template"),
        (
            CHAT_TEMPLATE.replace("<|image_pad|>", ""),
            "for two images its chat template writes 0 placeholders '<|image_",
        ),
        ("{{ raise_exception('only texts') }}", "rejects a user's turn of texts and images: only texts"),
    ],
)
def test_a_chat_template_that_shows_no_images_is_rejected(tiny_judge, template, missing):
    processor = AutoProcessor.from_pretrained(tiny_judge)
    processor.chat_template = template
    with pytest.raises(UnsuitableModelError) as caught:
        Chat(processor, "tiny")
    assert missing in str(caught.value)


def test_a_processor_without_image_placeholder_is_rejected(tiny_judge):
    processor = AutoProcessor.from_pretrained(tiny_judge)
    processor.image_token = None
    with pytest.raises(UnsuitableModelError, match=r"Qwen2_5_VLProcessor names no placeholder"):
        Chat(processor, "tiny")


def test_a_language_model_is_rejected(tmp_path):
    Qwen2Config().save_pretrained(tmp_path)
    judge_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UnsuitableModelError, match="has no processor for both text and images"):
        build_engine("vllm", EngineOptions(str(tmp_path)))


def test_a_model_that_transformers_cannot_run_is_rejected(checkpoint):
    (checkpoint / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    with pytest.raises(UnsuitableModelError, match="qwen2 is not a vision-language model"):
        build_engine("transformers", EngineOptions(str(checkpoint)))


def test_a_model_that_reads_no_images_as_tokens_is_rejected(checkpoint):
    (checkpoint / "config.json").write_text(json.dumps({"model_type": "mllama"}))
    with pytest.raises(UnsuitableModelError, match="mllama reads images by cross-attention"):
        build_engine("transformers", EngineOptions(str(checkpoint)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_model_len": 5000}, "max_model_len: 5000 is above the model's own limit of 4096 tokens"),
        ({"min_judge_pixels": 9000}, "min_judge_pixels: 9000 is above the maximum of 4096 pixels"),
    ],
)
def test_settings_that_a_judge_cannot_have_are_named(checkpoint, options, message):
    with pytest.raises(ConfigError, match=message):
        build_engine("transformers", EngineOptions(str(checkpoint), **options))


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_a_checkpoint_with_code_of_its_own_needs_the_flag(checkpoint, engine):
    (checkpoint / "own.py").write_text("raise SystemExit('executed')")
    for name in ("config.json", "processor_config.json"):
        edit_json(checkpoint / name, model_type="own", auto_map={"AutoConfig": "own.Own", "AutoProcessor": "own.Own"})
    with pytest.raises(ConfigError, match=r"contains Python code of its own.*--trust-remote-code"):
        build_engine(engine, EngineOptions(str(checkpoint)))


@pytest.mark.parametrize(
    ("engine", "option", "value"),
    [
        ("transformers", "quantization", "fp8"),
        ("transformers", "max_num_batched_tokens", 4096),
        ("transformers", "tensor_parallel_size", 2),
        ("transformers", "vllm_arguments", {"seed": 1}),
        ("openai", "quantization", "fp8"),
    ],
)
def test_an_option_that_the_engine_would_ignore_is_rejected(checkpoint, engine, option, value):
    with pytest.raises(ConfigError, match=f"{option}: the engine {engine} has no such setting"):
        build_engine(engine, EngineOptions(str(checkpoint), **{option: value}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantization": "awk"}, "quantization: the installed vLLM has no method 'awk'; did you mean 'awq'"),
        ({"quantization": "fp8_per_tensor", "dtype": "float32"}, "vLLM cannot serve .*quantization method fp8_per_"),
        ({"vllm_arguments": {"sead": 1}}, "vllm_arguments: .* 'sead'; did you mean 'seed'"),
        ({"max_num_batched_tokens": 64}, r"vLLM cannot serve .*max_num_batched_tokens \(64\)"),
        ({"max_model_len": 10**6}, r"vLLM cannot serve .*max_model_len"),
    ],
)
def test_settings_that_vllm_rejects_are_named(checkpoint, options, message):
    with pytest.raises(ConfigError) as caught:
        build_engine("vllm", EngineOptions(str(checkpoint), **options))
    assert caught.match(f"(?s){message}")
