"""Conversations -> padded model inputs of Qwen-VL models, for the transformers engine.

Each image is turned into patches once (candidates share their group's source); text is padded on the left, so that the
answer begins after the last position of every row. Legend: B rows, S tokens, N patches, D values per patch.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edit_r1.reward_service.engines.chat import Chat, images_of
from edit_r1.reward_service.engines.resolution import Resolution
from edit_r1.reward_service.types import JudgeImage, Messages
from edit_r1.shared.errors import EngineError

_CACHE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class _Patches:
    """One image in the form the vision encoder takes."""

    values: torch.Tensor
    """[N, D]"""
    grid: torch.Tensor
    """[3]: frames, rows, columns of patches."""
    placeholder: str
    """The image's placeholder text in the prompt."""

    @property
    def num_bytes(self) -> int:
        return self.values.numel() * self.values.element_size()


@dataclass(frozen=True)
class Row:
    """One conversation, ready to be batched."""

    ids: list[int]
    """Token ids with each placeholder expanded to its image's number of tokens."""
    digests: tuple[str, ...]
    pictures: tuple[_Patches, ...]


@dataclass(frozen=True)
class ModelInputs:
    """Inputs of one model run."""

    arguments: dict[str, Any]
    """Keyword arguments; of Qwen-VL, `pixel_values` has each distinct image once, `image_grid_thw` one row per
    placeholder."""
    shown: list[str]
    """Digest of each placeholder's image, in reading order over all rows."""


class BatchBuilder:
    """Turns conversations into the keyword arguments of a Qwen-VL model."""

    def __init__(self, chat: Chat, device: torch.device, max_tokens: int, resolution: Resolution) -> None:
        self._chat = chat
        self._processor = chat.processor
        self._device = device
        self._max_tokens = max_tokens
        self._size = resolution.size
        self._image_id = chat.image_token_id
        self._pad_id: int = self._chat.tokenizer.pad_token_id or 0
        self._cache: OrderedDict[str, _Patches] = OrderedDict()
        self._cached_bytes = 0
        self._lock = threading.Lock()

    def batches(
        self, conversations: Sequence[Messages], prefixes: Sequence[tuple[int, ...]], limit: int | None
    ) -> list[tuple[list[int], ModelInputs]]:
        """Inputs of model runs over at most `limit` padded tokens, each with the numbers of its conversations.

        Raises:
            EngineError: a conversation is longer than the model's limit.

        """
        rows = self.rows(conversations, prefixes)
        numbers = range(len(rows))
        return [
            (list(numbers[chunk]), self.inputs(rows[chunk])) for chunk in chunks([len(row.ids) for row in rows], limit)
        ]

    def rows(self, conversations: Sequence[Messages], prefixes: Sequence[tuple[int, ...]]) -> list[Row]:
        """One row per conversation, whose answer begins with the given token ids.

        Raises:
            EngineError: a conversation is longer than the model's limit.

        """
        images = [images_of(messages) for messages in conversations]
        with self._lock:
            patches = self._patches([image for row in images for image in row])
        shown = [tuple(patches[image.digest] for image in row) for row in images]
        return [
            Row(self._ids(messages, pictures, prefix), tuple(image.digest for image in row), pictures)
            for messages, row, pictures, prefix in zip(conversations, images, shown, prefixes, strict=True)
        ]

    def inputs(self, rows: Sequence[Row]) -> ModelInputs:
        """Inputs of one model run over these rows."""
        pictures = {name: one for row in rows for name, one in zip(row.digests, row.pictures, strict=True)}
        digests = [digest for row in rows for digest in row.digests]
        arguments = self._pad([row.ids for row in rows])
        if pictures:
            arguments["pixel_values"] = torch.cat([one.values for one in pictures.values()]).to(self._device)
            arguments["image_grid_thw"] = torch.stack([pictures[digest].grid for digest in digests]).to(self._device)
        return ModelInputs(arguments, digests)

    def _ids(self, messages: Messages, images: Sequence[_Patches], prefix: tuple[int, ...]) -> list[int]:
        """Ids of one conversation with each placeholder expanded to its image's number of tokens."""
        widths = iter(images)
        ids: list[int] = []
        for token in self._chat.token_ids(messages):
            ids += self._placeholder_ids(next(widths)) if token == self._image_id else [token]
        ids += prefix
        check_length(len(ids), self._max_tokens)
        return ids

    def _placeholder_ids(self, image: _Patches) -> list[int]:
        return [self._image_id] * image.placeholder.count(self._processor.image_token)

    def _pad(self, rows: list[list[int]]) -> dict[str, torch.Tensor]:
        """[B, S] ids, mask (1: token) and modality (1: image), padded on the left."""
        ids = pad_left(rows, self._pad_id)
        mask = pad_left([[1] * len(row) for row in rows], 0)
        modality = (ids == self._image_id).long()
        inputs = {"input_ids": ids, "attention_mask": mask, "mm_token_type_ids": modality}
        return {name: tensor.to(self._device) for name, tensor in inputs.items()}

    def _patches(self, images: list[JudgeImage]) -> dict[str, _Patches]:
        """Patches by digest; images missing from the cache are processed together."""
        found = {image.digest: self._cache[image.digest] for image in images if image.digest in self._cache}
        missing = {image.digest: image for image in images if image.digest not in found}
        if missing:
            found |= zip(missing, self._process(list(missing.values())), strict=True)
        for digest, patches in found.items():
            self._remember(digest, patches)
        return found

    def _process(self, images: list[JudgeImage]) -> list[_Patches]:
        inputs = self._processor.image_processor(
            images=[image.pixels for image in images], size=self._size, return_tensors="pt", device=self._device
        )
        grids = inputs["image_grid_thw"]
        values = inputs["pixel_values"].split(grids.prod(-1).tolist())
        return [
            _Patches(value, grid, self._processor.replace_image_token(inputs, index))
            for index, (value, grid) in enumerate(zip(values, grids, strict=True))
        ]

    def _remember(self, digest: str, patches: _Patches) -> None:
        if digest not in self._cache:
            # Clone: a slice would keep its whole batch alive.
            patches = _Patches(patches.values.clone(), patches.grid, patches.placeholder)
            self._cached_bytes += patches.num_bytes
            self._cache[digest] = patches
        self._cache.move_to_end(digest)
        while self._cached_bytes > _CACHE_BYTES:
            _, oldest = self._cache.popitem(last=False)
            self._cached_bytes -= oldest.num_bytes


def pad_left(rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    """[B, S] rows of numbers, filled up on the left."""
    longest = max(map(len, rows))
    return torch.tensor([[filler] * (longest - len(row)) + list(row) for row in rows])


def check_length(num_tokens: int, max_tokens: int) -> None:
    """Raise EngineError for a prompt that is longer than the model's limit."""
    if num_tokens > max_tokens:
        raise EngineError(f"the prompt has {num_tokens} tokens; this model's limit is {max_tokens}")


def chunks(lengths: Sequence[int], limit: int | None) -> list[slice]:
    """Split rows into consecutive chunks of at most `limit` tokens after padding; a longer row gets its own chunk."""
    found, start, longest = [], 0, 0
    for index, length in enumerate(lengths):
        longest = max(longest, length)
        if limit is not None and index > start and longest * (index + 1 - start) > limit:
            found.append(slice(start, index))
            start, longest = index, length
    return [*found, slice(start, len(lengths))]
