"""The vLLM engine, in-process and asynchronous: the same checkpoint, prompts and log-probabilities, at GPU speed.

Label log-probabilities come from `logprob_token_ids`: full-vocabulary values of exactly the label tokens. Requests with
`logprobs=k` are never mixed in, because their results would be corrupted (vllm issue 51789).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from typing import Any

import torch
from prometheus_client import REGISTRY
from prometheus_client.core import Metric

from edit_r1.reward_service.engines.base import EngineOptions
from edit_r1.reward_service.engines.chat import images_of
from edit_r1.reward_service.engines.checkpoint import load_chat
from edit_r1.reward_service.engines.resolution import choose_resolution
from edit_r1.reward_service.engines.vllm_config import build_config, check_arguments
from edit_r1.reward_service.types import Answer, Messages, SamplingSpec
from edit_r1.shared.errors import EngineDiedError, EngineError

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

    def __init__(self, options: EngineOptions) -> None:
        on_cpu = not torch.cuda.is_available()
        if on_cpu:
            for name, value in _CPU_ENVIRONMENT.items():
                os.environ.setdefault(name, value)
        # Import after the environment is set: vLLM reads it on import.
        from vllm.lora.request import LoRARequest  # noqa: PLC0415
        from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

        check_arguments(options)
        self.chat = load_chat(options.model, trust_remote_code=options.trust_remote_code)
        images = self.chat.processor.image_processor
        self._resolution = choose_resolution(images, options.min_judge_pixels, options.max_judge_pixels)
        self.llm: Any = AsyncLLM.from_vllm_config(
            build_config(options, self._resolution, on_cpu=on_cpu),
            # The only arguments of engines that are not in the configuration.
            enable_log_requests=bool(options.vllm_arguments.get("enable_log_requests", False)),
            disable_log_stats=bool(options.vllm_arguments.get("disable_log_stats", False)),
        )
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
            "multi_modal_data": {"image": [self._resolution.scaled(image.pixels) for image in images]},
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


def _queue_seconds(metrics: Any) -> float:
    """Time spent in the engine's queue; 0 if the engine keeps no statistics."""
    if metrics is None or not metrics.scheduled_ts:
        return 0.0
    return max(0.0, float(metrics.scheduled_ts - metrics.queued_ts))
