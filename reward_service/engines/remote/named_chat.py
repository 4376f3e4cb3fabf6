"""The text side of a judge whose tokenizer is not here: a stand-in for `Chat`.

Its token ids are code points, so texts survive the round trip through `SamplingSpec.prefix_ids`; they are never those
of the model.
"""

from __future__ import annotations

from collections.abc import Sequence

from edit_r1.reward_service.engines.labels import LabelTokens
from edit_r1.reward_service.types import Messages


class NamedChat:
    """See `ChatText` for the meaning of the methods."""

    control_tokens: frozenset[str] = frozenset()
    control_ids: frozenset[int] = frozenset()

    def __init__(self, model: str) -> None:
        self.model = model

    def text(self, messages: Messages) -> str:
        """The messages in a readable form; the server's template is unknown."""
        return "\n\n".join(
            f"{message.role}:\n" + "".join(part if isinstance(part, str) else "<image>" for part in message.content)
            for message in messages
        )

    def encode(self, text: str) -> tuple[int, ...]:
        """Code points."""
        return tuple(map(ord, text))

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of code points."""
        return "".join(map(chr, token_ids))

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """One character per id."""
        return tuple(map(chr, token_ids))

    def label_tokens(self, labels: tuple[str, ...]) -> LabelTokens:
        """None known: labels are compared as texts."""
        return LabelTokens(tuple(() for _ in labels))
