"""Engine options -> vLLM's configuration. Rejects what the installed vLLM cannot do, before weights are loaded."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edit_r1.reward_service.engines.base import EngineOptions
from edit_r1.reward_service.engines.checkpoint import asking_for_trust
from edit_r1.reward_service.engines.resolution import Resolution
from edit_r1.shared.errors import ConfigError, UnsuitableModelError

_AS_MANY_AS_FIT = -1
"""Value of `max_model_len` for which vLLM takes the model's limit, or fewer tokens if memory is short."""

_GPU_BATCHED_TOKENS = 8192
"""Tokens per step, as `vllm serve` chooses on large GPUs: prompts with two images of one megapixel fit in.
In process, vLLM would choose 2,048."""


def check_arguments(options: EngineOptions) -> None:
    """Raise ConfigError for an argument or a quantization method that the installed vLLM does not have."""
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415 - vLLM is imported only when used
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS  # noqa: PLC0415

    known = [one.name for one in fields(AsyncEngineArgs)]
    for name in options.vllm_arguments:
        if name not in known:
            raise ConfigError(f"vllm_arguments: the installed vLLM has no engine argument {name!r}{_hint(name, known)}")
    method = options.quantization
    if method is not None and method not in QUANTIZATION_METHODS:
        raise ConfigError(
            f"quantization: the installed vLLM has no method {method!r}{_hint(method, QUANTIZATION_METHODS)}; "
            f"it has {', '.join(sorted(QUANTIZATION_METHODS))}"
        )


def build_config(options: EngineOptions, resolution: Resolution, *, on_cpu: bool) -> Any:
    """A `VllmConfig`.

    Raises:
        ConfigError: vLLM rejects the settings, or the checkpoint contains code and `trust_remote_code` is off.
        UnsuitableModelError: the CPU build would compute something else than the model.

    """
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415 - vLLM is imported only when used
    from vllm.usage.usage_lib import UsageContext  # noqa: PLC0415

    settings = _settings(options, resolution, on_cpu)
    try:
        with asking_for_trust(options.model):
            if on_cpu:
                model = AsyncEngineArgs(**({"dtype": "float32"} | settings)).create_model_config()
                settings = _cpu_settings(model, options) | settings
            return AsyncEngineArgs(**settings).create_engine_config(UsageContext.ENGINE_CONTEXT)
    except ValidationError as error:
        faults = "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())
        raise ConfigError(f"vLLM cannot serve {options.model} with these settings: {faults}") from error
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(f"vLLM cannot serve {options.model} with these settings: {error}") from error


def _settings(options: EngineOptions, resolution: Resolution, on_cpu: bool) -> dict[str, Any]:
    """Engine arguments by name; those that users give take precedence."""
    ours: dict[str, Any] = dict(
        model=options.model,
        dtype=options.dtype,
        trust_remote_code=options.trust_remote_code,
        quantization=options.quantization,
        max_model_len=options.max_model_len or _AS_MANY_AS_FIT,
        max_num_seqs=options.max_batch,
        max_num_batched_tokens=options.max_num_batched_tokens or (None if on_cpu else _GPU_BATCHED_TOKENS),
        tensor_parallel_size=options.tensor_parallel_size,
        pipeline_parallel_size=options.pipeline_parallel_size,
        data_parallel_size=options.data_parallel_size,
        gpu_memory_utilization=options.gpu_memory_utilization,
        limit_mm_per_prompt={"image": options.max_images, "video": 0},
        mm_processor_kwargs=None if resolution.is_own else {"size": resolution.size},
        enforce_eager=on_cpu,
        generation_config="vllm",  # no penalties or temperature from the checkpoint
        **_lora_arguments(options.adapters, on_cpu),
    )
    if on_cpu and options.dtype == "auto":
        del ours["dtype"]  # depends on the model: `_cpu_settings`
    return {**ours, **options.vllm_arguments}


def _cpu_settings(model: Any, options: EngineOptions) -> dict[str, Any]:
    """What vLLM's CPU build needs for this `ModelConfig`.

    Every prompt is prefilled in one step: a seeded request prefilled in chunks crashes the engine
    (gpu_model_runner.py moves its generator's offset, which CPU generators do not have). Linear attention (Qwen3.5)
    needs chunks for prefix caching, so it has none, and is computed in bfloat16 only.
    """
    if model.is_mm_prefix_lm:
        raise UnsuitableModelError(
            f"model {options.model} cannot be a judge on vLLM's CPU build: its image tokens attend to each other in "
            "both directions, which that build ignores without a message; use --engine transformers, or a GPU"
        )
    if not model.is_hybrid:
        # Quantized layers are computed in 16 bits.
        return {"dtype": "bfloat16" if model.quantization else "float32", "enable_chunked_prefill": False}
    if options.dtype not in ("auto", "bfloat16"):
        raise ConfigError(
            f"dtype: vLLM's CPU build runs the linear attention of {options.model} in bfloat16 only, not in "
            f"{options.dtype}; use --engine transformers"
        )
    return {"dtype": "bfloat16", "enable_chunked_prefill": False, "enable_prefix_caching": False}


def _lora_arguments(adapters: Mapping[str, Path], on_cpu: bool) -> dict[str, Any]:
    """Adapter settings that vLLM needs at start-up.

    On a CPU there is one more slot than adapters: when a batch mixes rows with and without an adapter, vLLM gives rows
    without one the *last* slot (vllm pull request 48421), and a slot that is never filled adds zero.
    """
    if not adapters:
        return {}
    ranks = [json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))["r"] for path in adapters.values()]
    # vLLM supports only certain ranks.
    rank = next(size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= max(ranks))
    return {"enable_lora": True, "max_loras": len(adapters) + on_cpu, "max_lora_rank": rank}


def _hint(name: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
