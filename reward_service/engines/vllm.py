"""The vLLM engine, in-process and asynchronous: the same checkpoint, prompts and log-probabilities, at GPU speed.

Label log-probabilities come from `logprob_token_ids`: full-vocabulary values of exactly the label tokens. Requests with
`logprobs=k` are never mixed in, because their results would be corrupted (vllm issue 51789).
"""

from __future__ import annotations

import difflib
import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from prometheus_client import REGISTRY
from prometheus_client.core import Metric
from transformers import AutoProcessor

from edit_r1.reward_service.engines.base import EngineOptions
from edit_r1.reward_service.engines.chat import Chat, images_of
from edit_r1.reward_service.types import Answer, Messages, SamplingSpec
from edit_r1.shared.errors import ConfigError, EngineDiedError, EngineError

_CPU_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "TORCHDYNAMO_DISABLE": "1",  # compiling takes longer than running a small model
}


class VllmEngine:
    """A judge run by vLLM. See `Engine` for the meaning of the methods.

    Attributes:
        llm: the `AsyncLLM` instance.
        loras: vLLM's LoRA request for each adapter, by name.

    """

    name = "vllm"
    can_read_labels = can_continue = True
    trouble = None

    def __init__(self, options: EngineOptions) -> None:
        on_cpu = not torch.cuda.is_available()
        if on_cpu:
            for name, value in _CPU_ENVIRONMENT.items():
                os.environ.setdefault(name, value)
        # Import after the environment is set: vLLM reads it on import.
        from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415
        from vllm.lora.request import LoRARequest  # noqa: PLC0415
        from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

        self.chat = Chat(AutoProcessor.from_pretrained(options.model), options.model)
        _check_arguments(options.vllm_arguments, [one.name for one in fields(AsyncEngineArgs)])
        settings: dict[str, Any] = dict(
            model=options.model,
            dtype="float32" if on_cpu and options.dtype == "auto" else options.dtype,
            max_model_len=options.max_model_len,
            max_num_seqs=options.max_batch,
            tensor_parallel_size=options.tensor_parallel_size,
            pipeline_parallel_size=options.pipeline_parallel_size,
            data_parallel_size=options.data_parallel_size,
            gpu_memory_utilization=options.gpu_memory_utilization,
            limit_mm_per_prompt={"image": options.max_images, "video": 0},
            mm_processor_kwargs=(
                {"size": self.chat.image_size(options.max_image_pixels)} if options.max_image_pixels else None
            ),
            enforce_eager=on_cpu,
            # On a CPU, a seeded request prefilled in chunks crashes the engine (CPU generators have no offset).
            enable_chunked_prefill=not on_cpu,
            generation_config="vllm",  # no penalties or temperature from the checkpoint
            **_lora_arguments(options.adapters, on_cpu),
        )
        self.llm: Any = AsyncLLM.from_engine_args(AsyncEngineArgs(**{**settings, **options.vllm_arguments}))
        self.adapters = frozenset(options.adapters)
        self.max_model_len: int = self.llm.model_config.max_model_len
        self.loras = {
            name: LoRARequest(name, number, str(directory))
            for number, (name, directory) in enumerate(options.adapters.items(), 1)
        }
        self._request_numbers = itertools.count()

    async def generate(self, messages: Messages, spec: SamplingSpec) -> Answer:
        """Answer one conversation. Raises EngineError."""
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError  # noqa: PLC0415

        images = images_of(messages)
        prompt = {
            "prompt_token_ids": [*self.chat.token_ids(messages), *spec.prefix_ids],
            "multi_modal_data": {"image": [image.pixels for image in images]},
            "multi_modal_uuids": {"image": [image.digest for image in images]},
        }
        request = f"edit-{next(self._request_numbers)}"
        final = None
        try:
            lora = self.loras[spec.adapter] if spec.adapter else None
            async for output in self.llm.generate(prompt, self._sampling(spec), request, lora_request=lora):
                final = output
        except EngineDeadError as error:
            raise EngineDiedError("vLLM's engine process has died") from error
        except (EngineGenerateError, ValueError) as error:
            raise EngineError(f"the engine failed: {error!r}") from error
        if final is None or not final.finished:
            raise EngineError("the engine stopped before finishing the answer")
        return self._read(final, spec)

    def healthy(self) -> bool:
        """Whether the engine process is alive."""
        return not self.llm.errored

    def metrics(self) -> Iterable[Metric]:
        """VLLM's own metrics, from the process-wide registry."""
        return [metric for metric in REGISTRY.collect() if metric.name.startswith("vllm:")]

    def close(self) -> None:
        """Stop the engine process."""
        self.llm.shutdown()

    def _sampling(self, spec: SamplingSpec) -> Any:
        from vllm import SamplingParams  # noqa: PLC0415
        from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415

        return SamplingParams(
            temperature=spec.temperature,
            top_p=spec.top_p,
            top_k=spec.top_k,
            max_tokens=spec.max_tokens,
            seed=spec.seed % 2**63 if spec.temperature > 0 else None,
            logprob_token_ids=list(self.chat.label_ids(spec.labels)) or None,
            output_kind=RequestOutputKind.FINAL_ONLY,
            detokenize=False,
        )

    def _read(self, output: Any, spec: SamplingSpec) -> Answer:
        completion = output.outputs[0]
        token_ids = tuple(completion.token_ids)
        label_ids = self.chat.label_ids(spec.labels)
        rows = completion.logprobs if label_ids else ()
        return Answer(
            text=self.chat.decode(token_ids),
            token_ids=token_ids,
            pieces=self.chat.pieces(token_ids),
            label_logprobs=tuple(tuple(row[i].logprob for i in label_ids) for row in rows),
            finished=completion.finish_reason == "stop",
            queue_seconds=_queue_seconds(output.metrics),
        )


def _check_arguments(given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise ConfigError for an engine argument that the installed vLLM does not have."""
    for name in given:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise ConfigError(f"vllm_arguments: the installed vLLM has no engine argument {name!r}{hint}")


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


def _queue_seconds(metrics: Any) -> float:
    """Time spent in the engine's queue; 0 if the engine keeps no statistics."""
    if metrics is None or not metrics.scheduled_ts:
        return 0.0
    return max(0.0, float(metrics.scheduled_ts - metrics.queued_ts))
