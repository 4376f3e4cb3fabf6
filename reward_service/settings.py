"""The service's settings: flags, then `REWARD_*` environment variables, then the defaults below.

Each field is declared once: `max_batch` is the flag `--max-batch` and the variable `REWARD_MAX_BATCH`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict

from edit_r1.reward_service.engines.base import DtypeName, EngineName, EngineOptions
from edit_r1.reward_service.methods.templates import PRINCIPLES_DIRECTORY, TASKS_DIRECTORY
from edit_r1.shared.errors import ConfigError, fault_line
from edit_r1.shared.images import DEFAULT_LIMITS, ImageLimits
from edit_r1.shared.schemas import Limits

_SHAPES = Path(__file__).resolve().parents[1] / "worlds" / "shapes"
EMBEDDED_JUDGE = _SHAPES / "judge"


class Settings(BaseSettings):
    """Score image edits with a multimodal judge, over HTTP."""

    model_config = SettingsConfigDict(
        env_prefix="REWARD_",
        frozen=True,
        extra="forbid",
        cli_prog_name="edit-r1 serve",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        protected_namespaces=(),
    )

    model: str = Field(str(EMBEDDED_JUDGE), description="Judge: a checkpoint directory, or a model's name on the hub.")
    model_name: str | None = Field(None, description="Name in answers; by default the last part of `model`.")
    engine: EngineName = Field("auto", description="auto: vllm where it is installed and a GPU is there.")
    dtype: DtypeName = Field("auto", description="auto: float32 on a CPU, the checkpoint's own on a GPU.")

    host: str = Field("127.0.0.1", description="Address to listen on; loopback unless you say otherwise.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    api_key: SecretStr | None = Field(None, description="When set, /v1 and /metrics need `Authorization: Bearer`.")
    log_format: Literal["console", "json"] = Field("console", description="Lines for people, or JSON for machines.")

    task_prompts: Path | None = Field(
        None, description="Directory of <task>.txt requirement texts; by default the judge's own, else the built-in."
    )
    prompts: Path | None = Field(
        None,
        description="Directory of <name>.txt that replace built-in base prompts; by default the judge's own.",
    )
    principles: Literal["judge", "texts"] | Path | None = Field(
        None,
        description="What verifiers check: `judge` writes it for each edit, `texts` are the built-in ones, or a "
        "directory of <task>.txt; by default the judge's own directory, else `judge`.",
    )
    calibration: Path | None = Field(
        None, description="Directory of NN/{source,done,untouched,wrong}.png + instruction.txt, scored before ready."
    )
    max_reasoning_tokens: int | None = Field(
        None,
        ge=1,
        description="Tokens an answer may have in methods that reason; None: each method's own, 256 to 1024.",
    )
    min_score_mass: float = Field(
        0.5, ge=0, le=1, description="Label probability below which a score is flagged and counted."
    )

    max_batch: int = Field(32, ge=1, description="Candidates in one forward pass.")
    max_model_len: int | None = Field(None, ge=1, description="Tokens of prompt and answer together.")
    max_judge_pixels: int | None = Field(None, ge=1, description="Larger images are scaled down for the judge.")
    adapters: dict[str, Path] = Field(
        {}, description="LoRA adapters, METHOD=DIRECTORY; one answers the method of its name. Default: the judge's own."
    )
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs a layer is split over (vllm).")
    pipeline_parallel_size: int = Field(1, ge=1, description="Groups of GPUs that hold some layers each (vllm).")
    data_parallel_size: int = Field(1, ge=1, description="Copies of the model behind one front end (vllm).")
    vllm_arguments: dict[str, Any] = Field({}, description="Further engine arguments of vLLM, as JSON.")
    openai_url: str | None = Field(None, description="Root of a running vLLM's API, e.g. http://host:8000/v1 (openai).")
    openai_key: SecretStr | None = Field(None, description="Key of that server (openai).")
    openai_model: str | None = Field(None, description="The judge's name on that server; by default `model` (openai).")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="Share of GPU memory to use (vllm).")

    max_body_bytes: int = Field(256 * 2**20, ge=1, description="Size of a request.")
    max_image_bytes: int = Field(DEFAULT_LIMITS.max_bytes, ge=1, description="Encoded size of one image.")
    max_image_pixels: int = Field(DEFAULT_LIMITS.max_pixels, ge=1, description="Width times height of one image.")
    max_candidates: int = Field(64, ge=1, description="Candidates in one group.")
    max_groups: int = Field(64, ge=1, description="Groups in one batch request.")
    max_sources: int = Field(4, ge=1, description="Source images of one edit.")
    max_text_chars: int = Field(8192, ge=1, description="Characters of an instruction or requirement.")
    max_queued_candidates: int = Field(4096, ge=1, description="Candidates accepted at once; more get 429.")
    request_seconds: float = Field(300.0, gt=0, description="Time a request may take; then it gets 503.")
    drain_seconds: float = Field(60.0, ge=0, description="Time that running requests get after SIGTERM.")
    keep_alive_seconds: int = Field(120, ge=1, description="Idle time before a connection is closed.")

    @property
    def limits(self) -> Limits:
        """The limits as GET /v1/info shows them."""
        return Limits(**{name: getattr(self, name) for name in Limits.model_fields})

    @property
    def image_limits(self) -> ImageLimits:
        """The limits of one image."""
        return ImageLimits(max_bytes=self.max_image_bytes, max_pixels=self.max_image_pixels)

    @property
    def engine_options(self) -> EngineOptions:
        """What the engine needs to know."""
        return EngineOptions(
            model=self.model,
            dtype=self.dtype,
            max_batch=self.max_batch,
            max_images=self.max_sources + 1,
            max_model_len=self.max_model_len,
            adapters=self.adapter_directories,
            tensor_parallel_size=self.tensor_parallel_size,
            pipeline_parallel_size=self.pipeline_parallel_size,
            data_parallel_size=self.data_parallel_size,
            vllm_arguments=self.vllm_arguments,
            openai_url=self.openai_url,
            openai_key=self.openai_key.get_secret_value() if self.openai_key else None,
            openai_model=self.openai_model,
            gpu_memory_utilization=self.gpu_memory_utilization,
            max_image_pixels=self.max_judge_pixels,
        )

    @property
    def display_name(self) -> str:
        """The judge's name in answers."""
        return self.model_name or Path(self.model).name

    @property
    def prompts_directory(self) -> Path | None:
        """Where base prompts are replaced: as set, else in the checkpoint; None: nowhere."""
        return self.prompts or self._own("prompts")

    @property
    def task_prompts_directory(self) -> Path:
        """Where the task prompts are: as set, else in the checkpoint, else the built-in ones."""
        return self.task_prompts or self._own("task_prompts") or TASKS_DIRECTORY

    @property
    def principles_directory(self) -> Path | None:
        """Where the principles are written: as set, else in the checkpoint; None: the judge writes them."""
        if self.principles is None:
            return self._own("principles")
        if self.principles == "judge":
            return None
        return PRINCIPLES_DIRECTORY if self.principles == "texts" else Path(self.principles)

    @property
    def adapter_directories(self) -> dict[str, Path]:
        """LoRA adapters by the method they serve: as set, else those in the checkpoint."""
        own = self._own("adapters")
        found = {path.parent.name: path.parent for path in own.glob("*/adapter_config.json")} if own else {}
        return self.adapters or dict(sorted(found.items()))

    def _own(self, name: str) -> Path | None:
        """A directory that the judge's checkpoint brings along."""
        own = Path(self.model) / name
        return own if own.is_dir() else None

    @property
    def calibration_directory(self) -> Path | None:
        """Where the golden edits are: as set, else the embedded world's for its own judge, else nowhere."""
        is_embedded = Path(self.model).resolve() == EMBEDDED_JUDGE.resolve()
        samples = _SHAPES / "samples"
        return self.calibration or (samples if is_embedded and samples.is_dir() else None)


def settings_from(arguments: Sequence[str]) -> Settings:
    """Settings from flags and environment. `--help` and unknown flags end the process, as argparse does.

    Raises:
        ConfigError: a value is wrong; lists every fault.

    """
    try:
        return CliApp.run(Settings, cli_args=list(arguments))
    except ValidationError as error:
        faults = [f"  {fault_line(fault)}" for fault in error.errors()]
        raise ConfigError("\n".join(["settings of the reward service are not valid:", *faults])) from error
