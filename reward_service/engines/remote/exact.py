"""The openai engine's exact mode: an existing `vllm serve` through its chat API, as exactly as our own vLLM engine.

Label log-probabilities are the server's full-vocabulary values for exactly our label ids (`logprob_token_ids`), and
every answer is checked: the server must have read exactly our token ids, including those of a continued answer.
Anything inexact is an EngineError, never a guess. Needs vLLM 0.30 or newer on the server, with its default
--logprobs-mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import httpx
import stamina
from PIL import Image
from prometheus_client.core import Metric

from edit_r1.reward_service.engines.base import EngineOptions
from edit_r1.reward_service.engines.checkpoint import load_chat
from edit_r1.reward_service.engines.remote.server import check_served, connection, counters, root_of
from edit_r1.reward_service.engines.remote.trouble import Trouble
from edit_r1.reward_service.types import Answer, JudgeImage, Message, Messages, SamplingSpec
from edit_r1.shared.chat.completions import Usage, usage_of
from edit_r1.shared.chat.failures import failure_of
from edit_r1.shared.connections.http_clients import client
from edit_r1.shared.connections.http_failures import TRANSIENT_STATUSES
from edit_r1.shared.errors import (
    EngineAccountError,
    EngineDiedError,
    EngineError,
    EngineUnavailableError,
    UnsuitableModelError,
)
from edit_r1.shared.images import data_url, encode

_RETRY_SECONDS = 15.0
_PROBE = (
    Message("system", ("You are a helpful assistant.",)),
    Message("user", (JudgeImage(Image.new("RGB", (64, 64)), "probe"), "Say 1 or 2.")),
)


class OpenAIEngine:
    """A judge on another server. See `Engine` for the meaning of the methods."""

    name = "openai"
    can_read_labels = can_continue = True

    def __init__(self, options: EngineOptions) -> None:
        self.chat = load_chat(options.model, options.chat_template_kwargs, trust_remote_code=options.trust_remote_code)
        self._template_arguments = dict(options.chat_template_kwargs)
        self.adapters = frozenset(options.adapters)
        self.max_model_len = options.max_model_len
        self._url = root_of(options)
        self._http = connection(options)
        self._encoded = lru_cache(maxsize=512)(_data_url)
        self._image_id: int = self.chat.image_token_id
        self._num_answers = 0
        self._used = Usage()
        self._trouble = Trouble()
        self._lost = False
        self._model = self._check(options)

    async def generate(self, messages: Messages, spec: SamplingSpec) -> Answer:
        """Answer one conversation. Raises EngineError, or EngineDiedError if the server is gone."""
        body = self._body(messages, spec, spec.adapter or self._model)
        try:
            async for attempt in stamina.retry_context(on=_passing, attempts=None, timeout=_RETRY_SECONDS):
                with attempt:
                    answer = (await self._http.post(f"{self._url}/chat/completions", json=body)).raise_for_status()
        except httpx.HTTPStatusError as error:
            told = f"the server at {self._url} rejected the request: {error.response.text[:300]}"
            failure = failure_of(error.response)
            if failure is not None and failure.kind == "account":
                raise self._trouble.begin(EngineAccountError(told)) from error
            raise EngineError(told) from error
        except httpx.TransportError as error:
            self._lost = True
            raise EngineDiedError(f"the server at {self._url} does not answer: {error!r}") from error
        self._lost = False
        self._trouble.end()
        self._num_answers += 1
        found = answer.json()
        self._used = self._used.plus(usage_of(found))
        return self._read(found, messages, spec)

    @property
    def trouble(self) -> EngineUnavailableError | None:
        """The last refusal of the key or account, for a while."""
        return self._trouble.error

    def healthy(self) -> bool:
        """Whether the server answered the last request."""
        return not self._lost

    def metrics(self) -> Iterable[Metric]:
        """Numbers of answers and tokens; the server's own metrics are at its /metrics."""
        return counters(self._num_answers, self._used)

    def close(self) -> None:
        """No-op: the connections close with the process."""

    def _body(self, messages: Messages, spec: SamplingSpec, model: str) -> dict[str, Any]:
        continued = bool(spec.prefix_ids)
        wire: list[dict[str, Any]] = [
            {"role": message.role, "content": [self._part(part) for part in message.content]} for message in messages
        ]
        if continued:
            wire.append({"role": "assistant", "content": self.chat.decode(spec.prefix_ids)})
        labels = self.chat.label_tokens(spec.labels).ids
        return {
            "model": model,
            "messages": wire,
            "max_completion_tokens": spec.max_tokens,
            "temperature": spec.temperature,
            "top_p": spec.top_p,
            "top_k": spec.top_k,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "seed": spec.seed % 2**63,
            "add_generation_prompt": not continued,
            "continue_final_message": continued,
            "return_token_ids": True,
            **({"chat_template_kwargs": self._template_arguments} if self._template_arguments else {}),
            **(
                {"logprobs": True, "logprob_token_ids": list(labels), "return_tokens_as_token_ids": True}
                if labels
                else {}
            ),
        }

    def _part(self, part: str | JudgeImage) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        return {"type": "image_url", "image_url": {"url": self._encoded(part)}}

    def _read(self, answer: dict[str, Any], messages: Messages, spec: SamplingSpec) -> Answer:
        choice = answer["choices"][0]
        self._check_prompt(answer.get("prompt_token_ids"), messages, spec.prefix_ids)
        token_ids = tuple(choice["token_ids"])
        labels = self.chat.label_tokens(spec.labels)
        rows = choice["logprobs"]["content"] if spec.labels else []
        return Answer(
            text=self.chat.decode(token_ids),
            token_ids=token_ids,
            pieces=self.chat.pieces(token_ids),
            label_logprobs=tuple(labels.sums(_logprobs(row, labels.ids)) for row in rows),
            finished=choice["finish_reason"] == "stop",
        )

    def _check_prompt(self, found: Sequence[int] | None, messages: Messages, prefix: tuple[int, ...]) -> None:
        """Raise EngineError unless the server read exactly our tokens; placeholders may have any width."""
        expected = [*self.chat.token_ids(messages), *prefix]
        if found is None or self._collapsed(found) != self._collapsed(expected):
            raise EngineError(
                f"the server at {self._url} read other token ids than intended; its chat template or tokenizer differs "
                f"from that of {self.chat.model}, or it tokenises the text of a continued answer differently"
            )

    def _collapsed(self, ids: Sequence[int]) -> list[int]:
        """Ids with each run of image placeholders collapsed into one."""
        return [
            token for i, token in enumerate(ids) if token != self._image_id or i == 0 or ids[i - 1] != self._image_id
        ]

    def _check(self, options: EngineOptions) -> str:
        """Find the model on the server and send it one probe; returns its name there.

        Raises:
            ConfigError: there is no server, or it does not serve the model; AccountError if it refuses the key.
            UnsuitableModelError: the server tokenises our prompts differently.

        """
        with client(api_key=options.openai_key, timeout=60.0) as http:
            wanted = options.openai_model or options.model
            check_served(http, self._url, (wanted, *sorted(self.adapters)))
            spec = SamplingSpec(labels=("1", "2"))
            answer = http.post(f"{self._url}/chat/completions", json=self._body(_PROBE, spec, wanted))
        try:
            self._read(answer.raise_for_status().json(), _PROBE, spec)
        except (httpx.HTTPStatusError, EngineError, KeyError, TypeError) as error:
            raise UnsuitableModelError(f"engine openai: no exact scores from {self._url}: {error}") from error
        return wanted


def _logprobs(row: dict[str, Any], ids: Sequence[int]) -> list[float]:
    """Log-probabilities of token ids at one position. Raises EngineError if the server left one out."""
    found = {one["token"]: float(one["logprob"]) for one in (row, *row["top_logprobs"])}
    missing = [i for i in ids if f"token_id:{i}" not in found]
    if missing:
        raise EngineError(f"the server returned no log-probability for the label token {missing[0]}")
    return [found[f"token_id:{i}"] for i in ids]


def _passing(error: Exception) -> bool:
    busy = isinstance(error, httpx.HTTPStatusError) and error.response.status_code in TRANSIENT_STATUSES
    return busy or isinstance(error, httpx.TransportError)


def _data_url(image: JudgeImage) -> str:
    return data_url(encode(image.pixels))
