"""Chooses how the openai engine reads a server: exactly, by token ids, or compatibly, by what any API returns.

`exact` needs a vLLM that returns token ids, and its checkpoint here; `compatible` needs neither. `auto` takes `exact`
wherever it is possible, and says why not.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from edit_r1.reward_service.engines.base import Engine, EngineOptions
from edit_r1.reward_service.engines.remote.compatible import CompatibleEngine
from edit_r1.reward_service.engines.remote.server import returns_token_ids, root_of
from edit_r1.shared.connections.http_clients import client
from edit_r1.shared.errors import ConfigError, UnsuitableModelError

log = structlog.get_logger(__name__)
_PROBE_SECONDS = 60.0


def open_engine(options: EngineOptions) -> Engine:
    """The engine for the server in the options.

    Raises:
        ConfigError: no URL, no server there, or it does not serve the model; AccountError if it refuses the account.
        UnsuitableModelError: the server cannot be a judge in the chosen mode.

    """
    url = root_of(options)
    if options.openai_mode == "compatible":
        return CompatibleEngine(options)
    if options.openai_mode == "auto" and (reason := _why_not_exact(url, options)):
        log.info("openai mode", mode="compatible", reason=reason)
        return CompatibleEngine(options)
    if not _is_here(options.model):
        raise ConfigError(
            f"engine openai: mode exact needs the server's checkpoint here, but {options.model} is none; set model to "
            f"it, or use --openai-mode compatible"
        )
    if options.max_judge_pixels is not None:
        raise ConfigError(
            f"max_judge_pixels: in mode exact the server scales images; set its own bounds (--mm-processor-kwargs) "
            f"instead of {options.max_judge_pixels} here"
        )
    from edit_r1.reward_service.engines.remote.exact import OpenAIEngine  # noqa: PLC0415 - imports transformers

    try:
        engine = OpenAIEngine(options)
    except UnsuitableModelError as error:
        raise UnsuitableModelError(f"{error}; --openai-mode compatible needs no exact tokens") from error
    log.info("openai mode", mode="exact", reason="the server returns token ids, and its checkpoint is here")
    return engine


def _why_not_exact(url: str, options: EngineOptions) -> str | None:
    """Why exact scores are impossible; None if they are not."""
    with client(api_key=options.openai_key, timeout=_PROBE_SECONDS) as http:
        if not returns_token_ids(http, url, options.openai_model or options.model):
            return "the server returns no token ids"
    return None if _is_here(options.model) else f"model {options.model} is no checkpoint on this machine"


def _is_here(model: str) -> bool:
    """Whether a model's processor can be loaded from a directory, the hub's cache or the hub."""
    if Path(model).expanduser().is_dir():
        return True
    from transformers import AutoProcessor  # noqa: PLC0415 - heavy, and needed only for a name of the hub

    try:
        AutoProcessor.from_pretrained(model)
    except (OSError, ValueError):
        return False
    return True
