"""What an engine is.

Messages and a sampling spec enter; an `Answer` with token ids, text and full-vocabulary label log-probabilities leaves.
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
    """What engines need to know; the service's settings fill it in."""

    model: str
    """A checkpoint directory, or a model's name on the hub."""
    dtype: DtypeName = "auto"
    """`auto`: float32 on a CPU, the checkpoint's own on a GPU."""
    max_batch: int = 32
    """Candidates in one forward pass at most."""
    max_images: int = 8
    """Images in one conversation at most."""
    max_model_len: int | None = None
    """Tokens of prompt and answer at most; None: what the model was made for."""
    adapters: Mapping[str, Path] = field(default_factory=dict)
    """LoRA adapters (PEFT directories) by name; a `SamplingSpec` names the one that answers."""
    tensor_parallel_size: int = 1
    """GPUs a layer is split over (vLLM)."""
    pipeline_parallel_size: int = 1
    """Groups of GPUs that hold some layers each (vLLM)."""
    data_parallel_size: int = 1
    """Copies of the model behind one front end (vLLM)."""
    gpu_memory_utilization: float = 0.9
    """Share of GPU memory to use (vLLM)."""
    vllm_arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further engine arguments of vLLM, by their names there."""
    openai_url: str | None = None
    """Root of the OpenAI-style API of the engine `openai`, e.g. http://host:8000/v1."""
    openai_key: str | None = None
    """Sent to it as a bearer token."""
    openai_model: str | None = None
    """The judge's name on that server; None: `model`."""
    max_image_pixels: int | None = None
    """Larger images are scaled down to this many pixels before the judge sees them; None: the processor's own."""


class Engine(Protocol):
    """A loaded judge."""

    name: str
    chat: Chat
    """Its chat template and tokenizer."""
    adapters: frozenset[str]
    """Names of the LoRA adapters that it can answer with."""

    @property
    def max_model_len(self) -> int | None:
        """Tokens of prompt and answer together at most; None: it cannot tell."""
        ...

    async def generate(self, messages: Messages, spec: SamplingSpec) -> Answer:
        """Answer one conversation. Concurrent calls share forward passes; none changes another's answer.

        Raises:
            EngineError: this conversation could not be answered.
            EngineDiedError: nothing will be answered any more.

        """
        ...

    def healthy(self) -> bool:
        """Whether it can still answer; False is final."""
        ...

    def metrics(self) -> Iterable[Metric]:
        """What it counts itself, in Prometheus' terms."""
        ...

    def close(self) -> None:
        """Release the model. Calls that wait are answered or fail with EngineError, later ones fail with it."""
        ...
