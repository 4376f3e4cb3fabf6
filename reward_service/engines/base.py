"""The engine interface.

Takes messages and a sampling spec and returns an `Answer` with token ids, text and full-vocabulary label
log-probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from prometheus_client.core import Metric

from edit_r1.reward_service.engines.labels import LabelTokens
from edit_r1.reward_service.types import Answer, Messages, SamplingSpec
from edit_r1.shared.errors import EngineUnavailableError

EngineName = Literal["auto", "transformers", "vllm", "openai", "none"]
OpenAIMode = Literal["auto", "exact", "compatible"]
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class EngineOptions:
    """Engine options, filled in from the service's settings."""

    model: str
    """A checkpoint directory, or a model name on the Hugging Face Hub."""
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Variables of the chat template, e.g. {"enable_thinking": False}."""
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
    openai_key: str | None = field(default=None, repr=False)
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
    openai_mode: OpenAIMode = "auto"
    """`exact`: token ids of a vLLM are compared; `compatible`: any API; `auto`: exact if the server can."""
    max_reasoning_tokens: int | None = None
    """Room for the thinking of a model behind an API, beside its answer; None: 4096 tokens."""


class ChatText(Protocol):
    """The text side of a judge; see `Chat`."""

    @property
    def control_tokens(self) -> frozenset[str]:
        """Texts that the tokenizer parses as structure."""
        ...

    @property
    def control_ids(self) -> frozenset[int]:
        """Their token ids."""
        ...

    def text(self, messages: Messages) -> str:
        """The prompt up to the start of the judge's answer."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids."""
        ...

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """Text of each id on its own."""
        ...

    def label_tokens(self, labels: tuple[str, ...]) -> LabelTokens:
        """The tokens that spell the labels. Raises UnsuitableModelError if one cannot be read from this model."""
        ...


class Engine(Protocol):
    """A loaded judge."""

    name: str
    adapters: frozenset[str]
    """Names of the available LoRA adapters."""

    @property
    def chat(self) -> ChatText:
        """Its chat template and tokenizer."""
        ...

    @property
    def can_read_labels(self) -> bool:
        """Whether it returns log-probabilities of labels."""
        ...

    @property
    def can_continue(self) -> bool:
        """Whether it takes `SamplingSpec.prefix_ids`."""
        ...

    @property
    def trouble(self) -> EngineUnavailableError | None:
        """Why it answers nothing at present, if it may recover; see `healthy` for what is final."""
        ...

    @property
    def max_model_len(self) -> int | None:
        """Maximum number of tokens of prompt and answer together; None if unknown."""
        ...

    async def generate(self, messages: Messages, spec: SamplingSpec) -> Answer:
        """Answer one conversation. Concurrent calls share forward passes without affecting each other's answers.

        Raises:
            EngineError: this conversation could not be answered.
            EngineUnavailableError: the engine answers nothing at present; EngineDiedError: nor ever again.

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
