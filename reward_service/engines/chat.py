"""The text side of a model: chat template, tokenizer and label ids.

All engines use it, so they build identical prompts. Turns messages into token ids with one placeholder per image;
engines expand the placeholders themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from edit_r1.reward_service.types import JudgeImage, Messages
from edit_r1.shared.errors import UnsuitableModelError

_Skeleton = tuple[tuple[str, tuple[str | None, ...]], ...]
"""Messages with None in place of images: all that the text depends on."""

_PROBE: _Skeleton = (("system", ("Be exact.",)), ("user", ("Before:", None, "After:", None, "Compare.")))
"""A conversation like those of the methods: a system text, two images, and text between them."""


class Chat:
    """The text side of a processor (an `AutoProcessor` with tokenizer and chat template).

    Attributes:
        control_tokens: texts that the tokenizer parses as structure; clients must not send them.
        control_ids: their token ids.
        image_token: the placeholder of an image in the text.
        image_token_id: its token id.

    Raises:
        UnsuitableModelError: no processor for text and images, no image placeholder, or no fitting chat template.

    """

    def __init__(self, processor: Any, model: str) -> None:
        if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
            raise UnsuitableModelError(f"model {model} has no processor for both text and images, which a judge needs")
        if not getattr(processor, "chat_template", None):
            raise UnsuitableModelError(f"model {model} has no chat template; a base model without one is no judge")
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.model = model
        self.image_token, self.image_token_id = self._placeholder()
        special = {i: token.content for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        self.control_ids = frozenset(special) | {self.image_token_id}
        self.control_tokens = frozenset(special.values()) | {self.image_token}
        self._has_system_turn = True
        self._check_template()
        self._render = lru_cache(maxsize=1024)(self._render_uncached)
        self._tokenise = lru_cache(maxsize=1024)(self._tokenise_uncached)
        self._labels = lru_cache(maxsize=64)(self._label_ids_uncached)

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
        """The id of each label.

        Raises:
            UnsuitableModelError: a label is not exactly one token, so its probability cannot be read.

        """
        return self._labels(labels)

    def _label_ids_uncached(self, labels: tuple[str, ...]) -> tuple[int, ...]:
        encoded = {label: self.encode(label) for label in labels}
        wrong = [label for label, ids in encoded.items() if len(ids) != 1 or self.decode(ids) != label]
        if wrong:
            found = "; ".join(f"{label!r} is {list(self.pieces(encoded[label]))}" for label in wrong)
            raise UnsuitableModelError(
                f"model {self.model} cannot be a judge: each score label must be one token of its own, but {found}"
            )
        return tuple(ids[0] for ids in encoded.values())

    def _placeholder(self) -> tuple[str, int]:
        """The image placeholder, and its token id."""
        text = getattr(self.processor, "image_token", None)
        if not isinstance(text, str):
            raise UnsuitableModelError(
                f"model {self.model} cannot be a judge: its processor {type(self.processor).__name__} names no "
                "placeholder for an image in the text (image_token)"
            )
        ids = self.encode(text)
        if len(ids) != 1:
            raise UnsuitableModelError(
                f"model {self.model} cannot be a judge: its image placeholder {text!r} is {len(ids)} tokens "
                f"{list(self.pieces(ids))}, not one"
            )
        return text, ids[0]

    def _check_template(self) -> None:
        """Find out how the chat template takes the system text, and check that it has a place for each image."""
        try:
            self._has_system_turn = "Be exact." in self._render_uncached(_PROBE)
        except TemplateError:  # raised by templates that know no system turn
            self._has_system_turn = False
        try:
            text = self._render_uncached(_PROBE)
        except (TemplateError, TypeError) as error:
            raise UnsuitableModelError(
                f"model {self.model} cannot be a judge: its chat template rejects a user's turn of texts and images: "
                f"{error}"
            ) from error
        found = text.count(self.image_token)
        if found != 2:
            raise UnsuitableModelError(
                f"model {self.model} cannot be a judge: for two images its chat template writes {found} placeholders "
                f"{self.image_token!r}"
            )

    def _render_uncached(self, skeleton: _Skeleton) -> str:
        if not self._has_system_turn:
            skeleton = _without_system_turn(skeleton)
        conversation = [{"role": role, "content": [_part(part) for part in parts]} for role, parts in skeleton]
        text: str = self.processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
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


def _without_system_turn(skeleton: _Skeleton) -> _Skeleton:
    """The same with a system text at the start of the turn after it."""
    if len(skeleton) < 2 or skeleton[0][0] != "system":
        return skeleton
    (_, system), (role, parts), *rest = skeleton
    return ((role, (*system, "\n\n", *parts)), *rest)


def _part(part: str | None) -> dict[str, str]:
    return {"type": "image"} if part is None else {"type": "text", "text": part}
