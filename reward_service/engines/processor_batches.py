"""Conversations -> padded model inputs for any family, by its own processor.

The processor gets text and images and expands the placeholders; the given start of an answer is appended to the ids.
Legend: B rows, S tokens.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any

import torch

from edit_r1.reward_service.engines.batches import ModelInputs, check_length, chunks, pad_left
from edit_r1.reward_service.engines.chat import Chat, images_of
from edit_r1.reward_service.engines.resolution import Resolution
from edit_r1.reward_service.types import Messages

_PER_TOKEN = ("attention_mask", "token_type_ids", "mm_token_type_ids")
"""Inputs of shape [B, S] beside the ids, with the value of an ordinary text token."""


class ProcessorBatchBuilder:
    """Turns conversations into the keyword arguments of a model, for families without a faster way."""

    def __init__(
        self, chat: Chat, device: torch.device, dtype: torch.dtype, max_tokens: int, resolution: Resolution
    ) -> None:
        self._chat = chat
        # Padding changes a tokenizer's state, and other threads use the chat's.
        self._processor = copy.deepcopy(chat.processor)
        if self._processor.tokenizer.pad_token is None:
            self._processor.tokenizer.pad_token = self._processor.tokenizer.eos_token
        self._device = device
        self._dtype = dtype
        self._max_tokens = max_tokens
        self._resolution = resolution
        self._lock = threading.Lock()

    def batches(
        self, conversations: Sequence[Messages], prefixes: Sequence[tuple[int, ...]], limit: int | None
    ) -> list[tuple[list[int], ModelInputs]]:
        """Inputs of model runs over at most `limit` padded tokens, each with the numbers of its conversations.

        Raises:
            EngineError: a conversation is longer than the model's limit.

        """
        shown = [bool(images_of(messages)) for messages in conversations]
        alike = [[i for i, one in enumerate(shown) if one is kind] for kind in (True, False)]
        found = []
        for rows in filter(None, alike):
            inputs = self._inputs([conversations[i] for i in rows], [prefixes[i] for i in rows])
            lengths = inputs.arguments["attention_mask"].sum(1).tolist()
            for part in (rows[chunk] for chunk in chunks(lengths, limit)):
                if len(part) < len(rows):
                    inputs = self._inputs([conversations[i] for i in part], [prefixes[i] for i in part])
                found.append((part, inputs))
        return found

    def _inputs(self, conversations: Sequence[Messages], prefixes: Sequence[tuple[int, ...]]) -> ModelInputs:
        images = [images_of(messages) for messages in conversations]
        processed = self._process(
            [self._chat.text(messages) for messages in conversations],
            [[self._resolution.scaled(image.pixels) for image in row] for row in images],
        )
        arguments = {**processed, **self._with_prefixes(processed, prefixes)}
        return ModelInputs(
            {name: self._placed(value) for name, value in arguments.items()},
            [image.digest for row in images for image in row],
        )

    def _process(self, texts: list[str], images: list[list[Any]]) -> dict[str, Any]:
        options: dict[str, Any] = {"images": images} if images[0] else {}
        if images[0] and not self._resolution.is_own:
            options["size"] = self._resolution.size
        with self._lock:
            return dict(
                self._processor(
                    text=texts,
                    padding=True,
                    padding_side="left",
                    add_special_tokens=False,  # the chat template writes them
                    return_tensors="pt",
                    **options,
                )
            )

    def _with_prefixes(self, processed: dict[str, Any], prefixes: Sequence[tuple[int, ...]]) -> dict[str, torch.Tensor]:
        """[B, S] inputs with each row's answer begun by its prefix, padded on the left again."""
        kept = processed["attention_mask"].bool()
        ids = [
            [*row[mask].tolist(), *prefix]
            for row, mask, prefix in zip(processed["input_ids"], kept, prefixes, strict=True)
        ]
        for row in ids:
            check_length(len(row), self._max_tokens)
        found = {"input_ids": pad_left(ids, self._processor.tokenizer.pad_token_id)}
        for name in _PER_TOKEN:
            if name in processed:
                of_text = int(name == "attention_mask")
                found[name] = pad_left(
                    [
                        [*row[mask].tolist(), *([of_text] * len(prefix))]
                        for row, mask, prefix in zip(processed[name], kept, prefixes, strict=True)
                    ],
                    0,
                )
        return found

    def _placed(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return value.to(self._device, self._dtype if value.is_floating_point() else value.dtype)
