"""Builds the engine that the settings name; imports an engine's module, and with it vLLM or torch, only when needed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from edit_r1.reward_service.engines.base import Engine, EngineName, EngineOptions
from edit_r1.shared.errors import ConfigError


def choose_engine(name: EngineName) -> Literal["transformers", "vllm", "openai"]:
    """Resolve `auto`: vLLM if it is installed and there is a GPU, else transformers."""
    if name != "auto":
        return name
    import torch  # noqa: PLC0415 - heavy, and not needed to parse settings

    has_vllm = importlib.util.find_spec("vllm") is not None
    return "vllm" if has_vllm and torch.cuda.is_available() else "transformers"


def build_engine(name: EngineName, options: EngineOptions) -> Engine:
    """Load the model; blocks until it is loaded.

    Raises:
        ConfigError: no such checkpoint or adapter directory, unknown vLLM argument, or no such server.
        UnsuitableModelError: the model cannot serve as a judge.

    """
    if options.model.startswith((".", "/", "~")) and not Path(options.model).is_dir():
        raise ConfigError(f"model: directory {options.model} does not exist")
    _check_adapters(options.adapters)
    if name == "openai":
        from edit_r1.reward_service.engines.openai_mode import open_engine  # noqa: PLC0415

        return open_engine(options)
    if choose_engine(name) == "vllm":
        from edit_r1.reward_service.engines.vllm import VllmEngine  # noqa: PLC0415 - vLLM is imported only when used

        return VllmEngine(options)
    from edit_r1.reward_service.engines.transformers import TransformersEngine  # noqa: PLC0415

    return TransformersEngine.load(options)


def _check_adapters(adapters: Mapping[str, Path]) -> None:
    for name, directory in adapters.items():
        if not (directory / "adapter_config.json").is_file():
            raise ConfigError(f"adapters.{name}: no adapter_config.json in {directory}")
