"""The openai engine for any provider: a judge behind a chat API, without its tokenizer.

Labels are read from the most likely tokens of each position (`top_logprobs`). A label that is not among them counts as
0, and the probability of all tokens that were not returned is part of the answer. What the server cannot do is an
error, never a guess.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from PIL import Image
from prometheus_client.core import Metric

from edit_r1.reward_service.engines.base import EngineOptions
from edit_r1.reward_service.engines.remote.named_chat import NamedChat
from edit_r1.reward_service.engines.remote.probe import Abilities, probe
from edit_r1.reward_service.engines.remote.server import connection, counters, root_of
from edit_r1.reward_service.engines.remote.top_labels import answer_positions, label_logprobs, pieces, uncovered_mass
from edit_r1.reward_service.engines.remote.trouble import Trouble
from edit_r1.reward_service.types import Answer, JudgeImage, Messages, SamplingSpec
from edit_r1.shared.chat.completions import Completion, Position, Usage
from edit_r1.shared.chat.exchange import ChatExchange
from edit_r1.shared.chat.parameters import ChatParameters
from edit_r1.shared.errors import (
    AccountError,
    ConfigError,
    EndpointError,
    EndpointUnavailable,
    EngineAccountError,
    EngineError,
    EngineUnavailableError,
)
from edit_r1.shared.images import data_url, encode_png

_RETRY_SECONDS = 120.0
"""Rate limits of an API last up to a minute."""
_THINKING_TOKENS = 4096


class CompatibleEngine:
    """A judge behind any OpenAI-style API. See `Engine` for the meaning of the methods."""

    name = "openai"

    def __init__(self, options: EngineOptions) -> None:
        self._model = options.openai_model or options.model
        self.chat = NamedChat(self._model)
        self._template_arguments = dict(options.chat_template_kwargs)
        self.adapters = frozenset(options.adapters)
        self.max_model_len = options.max_model_len
        self._url = root_of(options)
        self._http = connection(options)
        parameters = ChatParameters()
        self._exchange = ChatExchange(self._http, _RETRY_SECONDS, parameters)
        self._encoded = lru_cache(maxsize=128)(_Encoder(options.max_judge_pixels))
        self._thinking_tokens = options.max_reasoning_tokens or _THINKING_TOKENS
        self._trouble = Trouble()
        self._num_answers = 0
        self._used = Usage()
        names = (self._model, *sorted(self.adapters))
        self.abilities: Abilities = probe(self._url, options.openai_key, names, parameters)

    @property
    def can_read_labels(self) -> bool:
        """Whether the server returns log-probabilities."""
        return self.abilities.num_top > 0

    @property
    def can_continue(self) -> bool:
        """Whether the server continues an answer that was begun for it."""
        return self.abilities.continues

    @property
    def trouble(self) -> EngineUnavailableError | None:
        """The last refusal of the account or lost connection, for a while; then the next request tries again."""
        return self._trouble.error

    async def generate(self, messages: Messages, spec: SamplingSpec) -> Answer:
        """Answer one conversation. Raises EngineError; EngineUnavailableError if the server answers nobody."""
        self._check(spec)
        # In a thread, because images are encoded.
        fields = await asyncio.to_thread(self._fields, messages, spec)
        try:
            completion = await self._exchange.complete(self._url, fields)
        except AccountError as error:
            raise self._trouble.begin(EngineAccountError(str(error))) from error
        except EndpointUnavailable as error:
            raise self._trouble.begin(EngineUnavailableError(str(error))) from error
        except (ConfigError, EndpointError) as error:
            raise EngineError(str(error)) from error
        self._trouble.end()
        self._num_answers += 1
        self._used = self._used.plus(completion.usage or Usage())
        return self._answer(completion, spec)

    def healthy(self) -> bool:
        """Always: an API that refuses the account or is unreachable may recover; see `trouble`."""
        return True

    def metrics(self) -> Iterable[Metric]:
        """Numbers of answers and tokens; the tokens are the provider's own counts."""
        return counters(self._num_answers, self._used)

    def close(self) -> None:
        """No-op: the connections close with the process."""

    def _check(self, spec: SamplingSpec) -> None:
        if spec.labels and not self.can_read_labels:
            raise EngineError(f"labels cannot be read: {self.abilities.no_top_reason}")
        if spec.prefix_ids and not self.can_continue:
            raise EngineError(f"an answer cannot be continued: {self.abilities.not_continued_reason}")

    def _fields(self, messages: Messages, spec: SamplingSpec) -> dict[str, Any]:
        wire: list[dict[str, Any]] = [
            {"role": message.role, "content": self._content(message.content)} for message in messages
        ]
        fields: dict[str, Any] = {
            "model": spec.adapter or self._model,
            "messages": wire,
            "max_tokens": spec.max_tokens + (self._thinking_tokens if self.abilities.thinks else 0),
            "temperature": spec.temperature,
        }
        if spec.temperature > 0:
            # Some APIs take 32 bits.
            fields |= {"seed": spec.seed % 2**31} | ({"top_p": spec.top_p} if spec.top_p < 1 else {})
            fields |= {"top_k": spec.top_k} if spec.top_k else {}
        if self._template_arguments:
            fields |= {"chat_template_kwargs": self._template_arguments}
        if spec.labels:
            fields |= {"logprobs": True, "top_logprobs": self.abilities.num_top}
        if spec.prefix_ids:
            wire.append({"role": "assistant", "content": self.chat.decode(spec.prefix_ids)})
            fields |= {"continue_final_message": True, "add_generation_prompt": False}
        return fields

    def _content(self, content: tuple[str | JudgeImage, ...]) -> str | list[dict[str, Any]]:
        texts = [part for part in content if isinstance(part, str)]
        if len(texts) == len(content):
            return "".join(texts)
        return [self._part(part) for part in content]

    def _part(self, part: str | JudgeImage) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        return {"type": "image_url", "image_url": {"url": self._encoded(part)}}

    def _answer(self, completion: Completion, spec: SamplingSpec) -> Answer:
        if completion.declined is not None:
            raise EngineError(f"the judge declined: {completion.declined}")
        positions = self._positions(completion) if spec.labels else ()
        return Answer(
            text=completion.text,
            token_ids=(),
            pieces=pieces(positions, spec.labels),
            label_logprobs=tuple(label_logprobs(one, spec.labels) for one in positions),
            finished=not completion.cut,
            uncovered=tuple(map(uncovered_mass, positions)),
            thinking=completion.reasoning,
            num_reported=completion.usage.completion_tokens if completion.usage else len(positions),
        )

    def _positions(self, completion: Completion) -> tuple[Position, ...]:
        """The positions of the answer's text. Raises EngineError if there are none, or only those of its thinking."""
        if not completion.positions:
            raise EngineError(f"the server at {self._url} returned no log-probabilities for this answer")
        if not completion.thinks:
            return completion.positions
        if completion.cut and not completion.text:
            raise EngineError("the answer was cut off while the judge was thinking: raise max_reasoning_tokens")
        found = answer_positions(completion.positions, completion.text)
        if not found:
            raise EngineError("the judge thinks, and its answer's log-probabilities cannot be told from those before")
        return found


@dataclass(frozen=True)
class _Encoder:
    """PNG, which every provider reads, at most `max_pixels` large."""

    max_pixels: int | None

    def __call__(self, image: JudgeImage) -> str:
        pixels = image.pixels
        if self.max_pixels is not None and pixels.width * pixels.height > self.max_pixels:
            scale = math.sqrt(self.max_pixels / (pixels.width * pixels.height))
            size = (max(1, int(pixels.width * scale)), max(1, int(pixels.height * scale)))
            pixels = pixels.resize(size, Image.Resampling.LANCZOS)
        return data_url(encode_png(pixels))
