"""Loads a judge's checkpoint, for serving and training alike: its model, chat template and end tokens.

Takes a directory or a name on the Hugging Face Hub and returns a `Checkpoint` on this machine's device, with all
weights frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig
from transformers.utils.logging import disable_progress_bar

from edit_r1.reward_service.engines.base import DtypeName
from edit_r1.reward_service.engines.chat import Chat


@dataclass(frozen=True)
class Checkpoint:
    """A Qwen-VL model that is ready to judge."""

    model: Any
    """On its device, in evaluation mode, with the checkpoint's generation settings removed."""
    chat: Chat
    end_ids: tuple[int, ...]
    """Ids of the tokens that end an answer; the one the model itself generates comes first."""
    max_tokens: int
    """The model's maximum number of tokens of prompt and answer together."""

    def until_end(self, token_ids: list[int]) -> tuple[list[int], bool]:
        """The answer up to and including the first end token, and whether there is one."""
        end = next((i + 1 for i, token in enumerate(token_ids) if token in self.end_ids), None)
        return token_ids[:end], end is not None


def load_checkpoint(name: str, dtype: DtypeName) -> Checkpoint:
    """Load processor and weights, on a GPU if there is one; blocks.

    Raises:
        UnsuitableModelError: no processor for text and images, or no chat template.

    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if dtype == "auto" and device.type == "cpu":
        dtype = "float32"
    disable_progress_bar()
    chat = Chat(AutoProcessor.from_pretrained(name), name)
    model = AutoModelForImageTextToText.from_pretrained(name, dtype=dtype).to(device).eval()
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
