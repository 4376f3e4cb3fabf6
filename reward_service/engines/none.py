"""The engine `none`: no judge, for a service that offers only measures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client.core import Metric

from edit_r1.reward_service.engines.labels import LabelTokens
from edit_r1.reward_service.types import Answer, Messages, SamplingSpec
from edit_r1.shared.errors import EngineError


class NoEngine:
    """See `Engine` for the meaning of the methods. It answers nothing, and has no control tokens and no labels."""

    name = "none"
    adapters: frozenset[str] = frozenset()
    can_read_labels = False
    can_continue = False
    trouble = None
    max_model_len = None

    def __init__(self) -> None:
        self.chat = _NoChat()

    async def generate(self, messages: Messages, spec: SamplingSpec) -> Answer:  # noqa: ARG002
        """Raises EngineError."""
        raise EngineError("the service has no judge (engine none)")

    def healthy(self) -> bool:
        """True: nothing can die."""
        return True

    def metrics(self) -> Iterable[Metric]:
        """None."""
        return ()

    def close(self) -> None:
        """Nothing to release."""


class _NoChat:
    control_tokens: frozenset[str] = frozenset()
    control_ids: frozenset[int] = frozenset()

    def text(self, messages: Messages) -> str:  # noqa: ARG002
        return ""

    def encode(self, text: str) -> tuple[int, ...]:  # noqa: ARG002
        return ()

    def decode(self, token_ids: Sequence[int]) -> str:  # noqa: ARG002
        return ""

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        return ("",) * len(token_ids)

    def label_tokens(self, labels: tuple[str, ...]) -> LabelTokens:
        return LabelTokens(((),) * len(labels))
