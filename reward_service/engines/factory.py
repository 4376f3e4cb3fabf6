"""Builds the engine that the settings name; imports an engine's module, and with it vLLM or torch, only when needed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from edit_r1.reward_service.engines.base import Engine, EngineName, EngineOptions
from edit_r1.reward_service.engines.none import NoEngine
from edit_r1.shared.errors import ConfigError

_VLLM_ONLY = {
    "tensor_parallel_size": "use --engine vllm to split a judge over GPUs",
    "pipeline_parallel_size": "use --engine vllm to split a judge over GPUs",
    "data_parallel_size": "use --engine vllm to run several copies of a judge",
    "max_num_batched_tokens": "use --engine vllm, or limit --max-batch",
    "vllm_arguments": "use --engine vllm",
}
"""Options that only vLLM in process has, and what to do instead."""

_JUDGES = (
    *("adapters", "chat_template_kwargs", "max_model_len", "quantization", "trust_remote_code"),
    *("min_judge_pixels", "max_judge_pixels", "openai_url", "openai_model"),
)
"""Options that concern a judge, with any engine."""

_NOT_HONOURED: Mapping[str, Mapping[str, str]] = {
    "vllm": {},
    "transformers": {
        **_VLLM_ONLY,
        "quantization": "it takes quantized checkpoints as their own config.json says, without this option",
    },
    "openai": {
        **dict.fromkeys(_VLLM_ONLY, "set it on that server"),
        "quantization": "set it on that server",
        "trust_remote_code": "set it on that server; here, a processor without code of its own is needed",
        "min_judge_pixels": "set the bounds on that server (--mm-processor-kwargs)",
    },
    "none": dict.fromkeys((*_VLLM_ONLY, *_JUDGES), "remove it: there is no judge"),
}
"""Options that an engine cannot honour, and what to do instead."""


def choose_engine(name: EngineName) -> Literal["transformers", "vllm", "openai", "none"]:
    """Resolve `auto`: vLLM if it is installed and there is a GPU, else transformers."""
    if name != "auto":
        return name
    import torch  # noqa: PLC0415 - heavy, and not needed to parse settings

    has_vllm = importlib.util.find_spec("vllm") is not None
    return "vllm" if has_vllm and torch.cuda.is_available() else "transformers"


def build_engine(name: EngineName, options: EngineOptions) -> Engine:
    """Load the model; blocks until it is loaded.

    Raises:
        ConfigError: no such checkpoint or adapter directory, an option that the engine cannot honour, or no such
            server.
        UnsuitableModelError: the model cannot serve as a judge.

    """
    if name == "none":
        _check_options(name, options)
        return NoEngine()
    if options.model.startswith((".", "/", "~")) and not Path(options.model).is_dir():
        raise ConfigError(f"model: directory {options.model} does not exist")
    _check_adapters(options.adapters)
    chosen = choose_engine(name)
    _check_options(chosen, options)
    if chosen == "openai":
        from edit_r1.reward_service.engines.remote.mode import open_engine  # noqa: PLC0415

        return open_engine(options)
    if chosen == "vllm":
        from edit_r1.reward_service.engines.vllm import VllmEngine  # noqa: PLC0415 - vLLM is imported only when used

        return VllmEngine(options)
    from edit_r1.reward_service.engines.transformers import TransformersEngine  # noqa: PLC0415

    return TransformersEngine.load(options)


def _check_options(engine: str, options: EngineOptions) -> None:
    """Raise ConfigError for options that this engine would ignore."""
    default = EngineOptions(options.model)
    wrong = {name: instead for name, instead in _NOT_HONOURED[engine].items() if _differs(name, options, default)}
    if wrong:
        faults = [
            f"{name}: the engine {engine} has no such setting (it is {getattr(options, name)!r}); {instead}"
            for name, instead in wrong.items()
        ]
        raise ConfigError("\n".join(faults))


def _differs(name: str, options: EngineOptions, default: EngineOptions) -> bool:
    return bool(getattr(options, name) != getattr(default, name))


def _check_adapters(adapters: Mapping[str, Path]) -> None:
    for name, directory in adapters.items():
        if not (directory / "adapter_config.json").is_file():
            raise ConfigError(f"adapters.{name}: no adapter_config.json in {directory}")
