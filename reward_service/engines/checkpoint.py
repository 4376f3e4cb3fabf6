"""Loads a judge's checkpoint, for serving and training alike: its model, chat template and end tokens.
`load_chat` loads only the text side, for engines that load the weights elsewhere.

Takes a directory or a name on the Hugging Face Hub and returns a `Checkpoint` on this machine's device, with all
weights frozen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, GenerationConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.utils.logging import disable_progress_bar

from edit_r1.reward_service.engines.base import DtypeName
from edit_r1.reward_service.engines.chat import Chat
from edit_r1.shared.errors import ConfigError, UnsuitableModelError

QWEN_VL = frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"})
"""Model types whose images can be encoded apart from the text: one row of patches per image, and its grid."""


@dataclass(frozen=True)
class Checkpoint:
    """A vision-language model that is ready to judge."""

    model: Any
    """On its device, in evaluation mode, with the checkpoint's generation settings removed."""
    chat: Chat
    end_ids: tuple[int, ...]
    """Ids of the tokens that end an answer; the one the model itself generates comes first."""
    max_tokens: int
    """The model's maximum number of tokens of prompt and answer together."""

    @property
    def is_qwen_vl(self) -> bool:
        """Whether each image can be encoded once and shared by conversations (`QWEN_VL`)."""
        return self.model.config.model_type in QWEN_VL

    def until_end(self, token_ids: list[int]) -> tuple[list[int], bool]:
        """The answer up to and including the first end token, and whether there is one."""
        end = next((i + 1 for i, token in enumerate(token_ids) if token in self.end_ids), None)
        return token_ids[:end], end is not None


def load_checkpoint(name: str, dtype: DtypeName, *, trust_remote_code: bool = False) -> Checkpoint:
    """Load processor and weights, on a GPU if there is one; blocks. Raises like `read_config` and `load_chat`."""
    read_config(name, trust_remote_code=trust_remote_code)
    return load_weights(
        load_chat(name, trust_remote_code=trust_remote_code), dtype, trust_remote_code=trust_remote_code
    )


def load_weights(chat: Chat, dtype: DtypeName, *, trust_remote_code: bool = False) -> Checkpoint:
    """Load the weights of a model whose text side is loaded, on a GPU if there is one; blocks."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if dtype == "auto" and device.type == "cpu":
        dtype = "float32"
    disable_progress_bar()
    model = AutoModelForImageTextToText.from_pretrained(chat.model, dtype=dtype, trust_remote_code=trust_remote_code)
    model = model.to(device).eval()
    model.requires_grad_(False)
    written = model.generation_config.eos_token_id
    ids = [written] if isinstance(written, int) else list(written or [])
    # The checkpoint's penalties and temperature must not affect a judge, but `generate` would merge them in.
    model.generation_config = GenerationConfig()
    return Checkpoint(
        model=model,
        chat=chat,
        end_ids=tuple(dict.fromkeys([*ids, chat.tokenizer.eos_token_id])),
        max_tokens=model.config.get_text_config().max_position_embeddings,
    )


def load_chat(name: str, *, trust_remote_code: bool = False) -> Chat:
    """Load the text side of a model: processor, tokenizer and chat template.

    Raises:
        ConfigError: the checkpoint contains code, and `trust_remote_code` is off.
        UnsuitableModelError: no processor for text and images, no image placeholder, or no fitting chat template.

    """
    with asking_for_trust(name):
        try:
            processor = AutoProcessor.from_pretrained(name, trust_remote_code=trust_remote_code)
        except ValueError as error:
            if "Unrecognized processing class" not in str(error):
                raise
            raise UnsuitableModelError(
                f"model {name} has no processor for both text and images, which a judge needs: {error}"
            ) from error
    return Chat(processor, name)


def read_config(name: str, *, trust_remote_code: bool = False) -> Any:
    """The configuration of a model that the transformers engine can run.

    Raises:
        ConfigError: the checkpoint contains code, and `trust_remote_code` is off.
        UnsuitableModelError: not a vision-language model, or one that does not read images as tokens of the prompt.

    """
    with asking_for_trust(name):
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    brings_its_own = "AutoModelForImageTextToText" in (getattr(config, "auto_map", None) or {})
    if config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES and not brings_its_own:
        raise UnsuitableModelError(
            f"model {name} cannot be a judge: {config.model_type} is not a vision-language model that the transformers "
            "engine can run (AutoModelForImageTextToText); with a GPU, try --engine vllm"
        )
    if config.is_encoder_decoder or config.model_type == "mllama":
        raise UnsuitableModelError(
            f"model {name} cannot be a judge: {config.model_type} reads images by cross-attention or in an encoder of "
            "their own, not as tokens of the prompt"
        )
    return config


@contextmanager
def asking_for_trust(name: str) -> Iterator[None]:
    """Turn transformers' request for `trust_remote_code` into one that names our flag."""
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ConfigError(
            f"trust_remote_code: model {name} contains Python code of its own, which is executed only with "
            "--trust-remote-code (REWARD_TRUST_REMOTE_CODE=true); read that code first"
        ) from error
