"""Finds out what a chat API can do as a judge, with a few short requests before it is used.

Teaches `ChatParameters` what the API accepts and returns its `Abilities`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import structlog
from PIL import Image

from edit_r1.reward_service.engines.remote.server import check_served
from edit_r1.shared.chat.completions import Completion
from edit_r1.shared.chat.exchange import ChatExchange
from edit_r1.shared.chat.parameters import ChatParameters
from edit_r1.shared.connections.http_clients import async_client, client
from edit_r1.shared.errors import AccountError, ConfigError, EndpointFailed, EndpointRefused, UnsuitableModelError
from edit_r1.shared.images import data_url, encode_png

log = structlog.get_logger(__name__)
_SECONDS = 60.0
_RETRY_SECONDS = 30.0
_ANSWER_TOKENS = 64
_TOPS = (20, 10, 8, 5)
"""Numbers of most likely tokens to request, the first accepted one is used: OpenAI, Gemini and vLLM give 20."""
_UNABLE = (ConfigError, EndpointRefused, EndpointFailed)
_BEGINNING = "1, 2, 3,"


@dataclass(frozen=True)
class Abilities:
    """What a server can do as a judge."""

    num_top: int
    """Number of most likely tokens it returns per position; 0: none."""
    no_top_reason: str
    """Why there are none."""
    continues: bool
    """Whether it continues an answer that was begun for it."""
    not_continued_reason: str
    thinks: bool
    """Whether the model thinks before it answers, out of the same limit of tokens."""


def probe(url: str, api_key: str | None, names: Sequence[str], parameters: ChatParameters) -> Abilities:
    """The abilities of the model `names[0]`; the other names must be served too. Call outside an event loop.

    Raises:
        ConfigError: there is no server, or it does not serve a model; AccountError if it refuses the account.
        UnsuitableModelError: it does not answer a question about an image.

    """
    with client(api_key=api_key, timeout=_SECONDS) as http:
        check_served(http, url, names)
    abilities = asyncio.run(_probe(url, api_key, names[0], parameters))
    log.info(
        "judge behind an API",
        url=url,
        top_logprobs=abilities.num_top or abilities.no_top_reason,
        continues_answers=abilities.continues or abilities.not_continued_reason,
        thinks=abilities.thinks,
        parameters_not_sent=sorted(parameters.omitted),
    )
    return abilities


async def _probe(url: str, api_key: str | None, model: str, parameters: ChatParameters) -> Abilities:
    async with async_client(api_key=api_key, timeout=_SECONDS, limits=httpx.Limits()) as http:
        prober = _Prober(ChatExchange(http, _RETRY_SECONDS, parameters), url, model)
        try:
            first = await prober.ask()
        except AccountError:
            raise
        except _UNABLE as error:
            raise UnsuitableModelError(f"engine openai: no answer about an image from {model}: {error}") from error
        num_top, no_top_reason = await prober.num_top()
        continues, not_continued_reason = await prober.continues()
        thinks = first.thinks or (first.cut and not first.text)
        return Abilities(num_top, no_top_reason, continues, not_continued_reason, thinks)


@dataclass(frozen=True)
class _Prober:
    exchange: ChatExchange
    url: str
    model: str

    async def ask(self, *, beginning: str | None = None, **fields: Any) -> Completion:
        picture = {"type": "image_url", "image_url": {"url": data_url(encode_png(Image.new("RGB", (64, 64))))}}
        content = [picture, {"type": "text", "text": "Count: 1, 2, 3 and so on."}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if beginning is not None:
            messages.append({"role": "assistant", "content": beginning})
        asked = {"model": self.model, "messages": messages, "temperature": 0.0, "max_tokens": _ANSWER_TOKENS}
        return await self.exchange.complete(self.url, asked | fields)

    async def num_top(self) -> tuple[int, str]:
        """The number of most likely tokens that the server returns, and why there are none."""
        reason = f"the server at {self.url} returns no log-probabilities (logprobs, top_logprobs)"
        for number in _TOPS:
            try:
                found = await self.ask(logprobs=True, top_logprobs=number)
            except AccountError:
                raise
            except _UNABLE as error:
                reason = f"the server refuses logprobs and top_logprobs: {error}"
                continue
            if found.positions and found.positions[0].top:
                return number, ""
            return 0, f"the server at {self.url} returns no log-probabilities (logprobs, top_logprobs)"
        return 0, reason

    async def continues(self) -> tuple[bool, str]:
        """Whether `continue_final_message` works, and why not.

        A prompt whose last answer is continued has fewer tokens than one in which it is closed and another begins; a
        server that ignores the field counts the same.
        """
        fields = {"max_tokens": 1}
        try:
            closed = await self.ask(beginning=_BEGINNING, **fields)
            begun = await self.ask(
                beginning=_BEGINNING, continue_final_message=True, add_generation_prompt=False, **fields
            )
        except AccountError:
            raise
        except _UNABLE as error:
            return False, f"the server refuses continue_final_message: {error}"
        if closed.usage is None or begun.usage is None:
            return False, "the server does not count tokens, so that continue_final_message cannot be checked"
        if begun.usage.prompt_tokens >= closed.usage.prompt_tokens:
            return False, "the server ignores continue_final_message"
        return True, ""
