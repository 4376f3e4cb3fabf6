"""The engine interface.

Takes messages and a sampling spec and returns an `Answer` with token ids, text and full-vocabulary label
log-probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from prometheus_client.core import Metric

from edit_r1.reward_service.engines.chat import Chat
from edit_r1.reward_service.types import Answer, Messages, SamplingSpec

EngineName = Literal["auto", "transformers", "vllm", "openai"]
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class EngineOptions:
    """Engine options, filled in from the service's settings."""

    model: str
    """A checkpoint directory, or a model name on the Hugging Face Hub."""
    dtype: DtypeName = "auto"
    """`auto`: float32 on CPU, the checkpoint's dtype on GPU."""
    max_batch: int = 32
    """Maximum number of candidates per forward pass."""
    max_images: int = 8
    """Maximum number of images per conversation."""
    max_model_len: int | None = None
    """Maximum number of tokens of prompt and answer together; None: the model's own limit."""
    adapters: Mapping[str, Path] = field(default_factory=dict)
    """LoRA adapters (PEFT directories) by name; a `SamplingSpec` names the one to use."""
    tensor_parallel_size: int = 1
    """Number of GPUs each layer is split across (vLLM)."""
    pipeline_parallel_size: int = 1
    """Number of pipeline stages the layers are split across (vLLM)."""
    data_parallel_size: int = 1
    """Number of model copies behind one front end (vLLM)."""
    gpu_memory_utilization: float = 0.9
    """Fraction of GPU memory to use (vLLM)."""
    vllm_arguments: Mapping[str, Any] = field(default_factory=dict)
    """Additional vLLM engine arguments by name."""
    openai_url: str | None = None
    """Root URL of the OpenAI-style API for the engine `openai`, e.g. http://host:8000/v1."""
    openai_key: str | None = None
    """API key sent to that server as a bearer token."""
    openai_model: str | None = None
    """The judge's name on that server; None: `model`."""
    min_judge_pixels: int | None = None
    """Images are scaled up to at least this many pixels for the judge; None: the processor's own limit."""
    max_judge_pixels: int | None = None
    """Images are scaled down to at most this many pixels; None: see `resolution`."""
    max_num_batched_tokens: int | None = None
    """Maximum number of tokens per step, over all prompts (vLLM); None: 8192 on a GPU, vLLM's choice on a CPU."""
    quantization: str | None = None
    """Method to quantize the weights with, by vLLM's name; None: as the checkpoint's configuration says."""
    trust_remote_code: bool = False
    """Whether to execute Python code that the checkpoint contains."""


class Engine(Protocol):
    """A loaded judge."""

    name: str
    chat: Chat
    """Its chat template and tokenizer."""
    adapters: frozenset[str]
    """Names of the available LoRA adapters."""

    @property
    def max_model_len(self) -> int | None:
        """Maximum number of tokens of prompt and answer together; None if unknown."""
        ...

    async def generate(self, messages: Messages, spec: SamplingSpec) -> Answer:
        """Answer one conversation. Concurrent calls share forward passes without affecting each other's answers.

        Raises:
            EngineError: this conversation could not be answered.
            EngineDiedError: the engine cannot answer any more.

        """
        ...

    def healthy(self) -> bool:
        """Whether the engine can still answer; False is final."""
        ...

    def metrics(self) -> Iterable[Metric]:
        """The engine's own Prometheus metrics."""
        ...

    def close(self) -> None:
        """Release the model. Pending calls are answered or fail with EngineError; later calls fail with it."""
        ...
