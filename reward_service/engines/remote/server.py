"""The openai engine's server: its models, whether it returns token ids, and the counters of its use."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import httpx
from prometheus_client.core import CounterMetricFamily, Metric

from edit_r1.reward_service.engines.base import EngineOptions
from edit_r1.shared.chat.completions import Usage
from edit_r1.shared.chat.failures import failure_of
from edit_r1.shared.connections.http_clients import async_client
from edit_r1.shared.errors import AccountError, ConfigError

_SHOWN = 10
_TIMEOUT_SECONDS = 300.0


def root_of(options: EngineOptions) -> str:
    """The server's root URL. Raises ConfigError if none is set."""
    if options.openai_url is None:
        raise ConfigError("engine openai: openai_url must be set to the server's URL, e.g. http://gpu-1:8000/v1")
    return options.openai_url.rstrip("/")


def connection(options: EngineOptions) -> httpx.AsyncClient:
    """A client for the engine's requests: as many at once as the service has in work."""
    limits = httpx.Limits(max_connections=4 * options.max_batch, max_keepalive_connections=options.max_batch)
    return async_client(api_key=options.openai_key, timeout=_TIMEOUT_SECONDS, limits=limits)


def check_served(http: httpx.Client, url: str, wanted: Collection[str]) -> None:
    """Check that a server lists these models. One that has no list is not checked.

    Raises:
        ConfigError: there is no server, or it does not serve a model.
        AccountError: it refuses the key or the account.

    """
    try:
        answer = http.get(f"{url}/models")
    except httpx.HTTPError as error:
        raise ConfigError(f"engine openai: no OpenAI-style server at {url}: {error!r}") from error
    failure = failure_of(answer)
    if failure is not None and failure.kind == "account":
        raise AccountError(f"engine openai: {url} refuses the key or account: {failure.message}")
    served = _names(answer)
    missing = [name for name in wanted if served and name not in served]
    if missing:
        more = f" and {len(served) - _SHOWN} more" if len(served) > _SHOWN else ""
        raise ConfigError(
            f"engine openai: {url} serves {', '.join(served[:_SHOWN])}{more}, not {missing[0]}; set --openai-model (or "
            f"--model) to the judge's name there, and --adapters to names that it serves"
        )


def returns_token_ids(http: httpx.Client, url: str, model: str) -> bool:
    """Whether an answer comes with the token ids of its prompt, as a vLLM's does when asked.

    Raises:
        ConfigError: the server gives no answer now, so that its kind is unknown.
        AccountError: it refuses the key or the account.

    """
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Say 1 or 2."}],
        "max_tokens": 1,
        "return_token_ids": True,
    }
    try:
        answer = http.post(f"{url}/chat/completions", json=body)
    except httpx.HTTPError as error:
        raise ConfigError(f"engine openai: no OpenAI-style server at {url}: {error!r}") from error
    failure = failure_of(answer)
    if failure is None:
        return _has_token_ids(answer)
    if failure.kind == "account":
        raise AccountError(f"engine openai: {url} refuses the key or account: {failure.message}")
    if failure.kind in ("busy", "failed"):
        raise ConfigError(f"engine openai: {url} cannot answer now: {failure.message}")
    return False


def _has_token_ids(answer: httpx.Response) -> bool:
    try:
        found: Any = answer.json()
    except ValueError:
        return False
    return isinstance(found, dict) and bool(found.get("prompt_token_ids"))


def counters(num_answers: int, used: Usage) -> list[Metric]:
    """Prometheus counters of an engine that uses an API; the tokens are the server's own counts."""
    return [
        CounterMetricFamily("reward_engine_answers", "Conversations answered.", num_answers),
        CounterMetricFamily("reward_api_prompt_tokens", "Prompt tokens of the API.", used.prompt_tokens),
        CounterMetricFamily("reward_api_completion_tokens", "Answer tokens of the API.", used.completion_tokens),
    ]


def _names(answer: httpx.Response) -> list[str]:
    """Names of the models; Gemini's begin with `models/`, which its chats do not need."""
    try:
        listed: Any = answer.json()["data"]
        return [str(one["id"]).removeprefix("models/") for one in listed] if answer.is_success else []
    except (ValueError, LookupError, TypeError):
        return []
