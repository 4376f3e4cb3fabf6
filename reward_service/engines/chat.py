"""The text side of a model: chat template, tokenizer and label ids; and the size at which it sees images.

All engines use it, so they build identical prompts. Turns messages into token ids with one placeholder per image;
engines expand the placeholders themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from edit_r1.reward_service.engines.labels import LabelTokens, spellings
from edit_r1.reward_service.types import JudgeImage, Messages
from edit_r1.shared.errors import UnsuitableModelError

_Skeleton = tuple[tuple[str, tuple[str | None, ...]], ...]
"""Messages with None in place of images: all that the text depends on."""


class Chat:
    """The text side of a processor (an `AutoProcessor` with tokenizer and chat template).

    Attributes:
        control_tokens: texts that the tokenizer parses as structure; clients must not send them.
        control_ids: their token ids.

    """

    def __init__(self, processor: Any, model: str, template_arguments: Mapping[str, Any] | None = None) -> None:
        """template_arguments: variables of the chat template."""
        if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
            raise UnsuitableModelError(f"model {model} has no processor for both text and images, which a judge needs")
        if not getattr(processor, "chat_template", None):
            raise UnsuitableModelError(f"model {model} has no chat template")
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.model = model
        self._template_arguments = dict(template_arguments or {})
        special = {i: token.content for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        self.control_ids = frozenset(special) | {processor.image_token_id}
        self.control_tokens = frozenset(special.values()) | {processor.image_token}
        self._render = lru_cache(maxsize=1024)(self._render_uncached)
        self._tokenise = lru_cache(maxsize=1024)(self._tokenise_uncached)
        self._labels = lru_cache(maxsize=64)(self._label_tokens_uncached)

    def text(self, messages: Messages) -> str:
        """The prompt up to the start of the judge's answer, with one placeholder per image."""
        return self._render(_skeleton(messages))

    def token_ids(self, messages: Messages) -> tuple[int, ...]:
        """The ids of `text`."""
        return self._tokenise(_skeleton(messages))

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text, without added special tokens."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        decoded: str = self.tokenizer.decode(
            list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return decoded

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """Text of each id on its own."""
        return tuple(self.tokenizer.batch_decode([[i] for i in token_ids], clean_up_tokenization_spaces=False))

    def label_ids(self, labels: tuple[str, ...]) -> tuple[int, ...]:
        """The id of each label, spelled exactly so.

        Raises:
            UnsuitableModelError: a label is not exactly one token, so its probability cannot be read.

        """
        return tuple(ids[0] for ids in self.label_tokens(labels).spellings)

    def label_tokens(self, labels: tuple[str, ...]) -> LabelTokens:
        """All single tokens that spell the labels. Raises UnsuitableModelError, like `label_ids`."""
        return self._labels(labels)

    def image_size(self, max_pixels: int | None) -> dict[str, int]:
        """The image processor's `size`: its bounds in pixels, with `max_pixels` replacing the upper one if given."""
        size = dict(self.processor.image_processor.size)
        if max_pixels is not None:
            size["longest_edge"] = max_pixels
            size["shortest_edge"] = min(size["shortest_edge"], max_pixels)
        return size

    def _label_tokens_uncached(self, labels: tuple[str, ...]) -> LabelTokens:
        encoded = {label: self.encode(label) for label in labels}
        wrong = [label for label, ids in encoded.items() if len(ids) != 1 or self.decode(ids) != label]
        if wrong:
            found = "; ".join(f"{label!r} is {list(self.pieces(encoded[label]))}" for label in wrong)
            raise UnsuitableModelError(
                f"model {self.model} cannot be a judge: each score label must be one token of its own, but {found}"
            )
        vocabulary = self.tokenizer.get_vocab() if labels else {}
        return LabelTokens(
            tuple(
                spellings(label, ids[0], vocabulary, lambda token: self.pieces([token])[0])
                for label, ids in encoded.items()
            )
        )

    def _render_uncached(self, skeleton: _Skeleton) -> str:
        conversation = [{"role": role, "content": [_part(part) for part in parts]} for role, parts in skeleton]
        text: str = self.processor.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=True, **self._template_arguments
        )
        return text

    def _tokenise_uncached(self, skeleton: _Skeleton) -> tuple[int, ...]:
        return self.encode(self._render(skeleton))


def images_of(messages: Messages) -> list[JudgeImage]:
    """The images of a conversation in reading order."""
    return [part for message in messages for part in message.content if isinstance(part, JudgeImage)]


def _skeleton(messages: Messages) -> _Skeleton:
    return tuple(
        (message.role, tuple(part if isinstance(part, str) else None for part in message.content))
        for message in messages
    )


def _part(part: str | None) -> dict[str, str]:
    return {"type": "image"} if part is None else {"type": "text", "text": part}
