"""The service's settings, in order of precedence: flags, `REWARD_*` environment variables, the defaults below.

Each field is declared once: `max_batch` is the flag `--max-batch` and the variable `REWARD_MAX_BATCH`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict

from edit_r1.reward_service.engines.base import DtypeName, EngineName, EngineOptions, OpenAIMode
from edit_r1.reward_service.methods.ranking import MAX_OPPONENTS
from edit_r1.reward_service.methods.templates import PRINCIPLES_DIRECTORY, TASKS_DIRECTORY
from edit_r1.shared.connections.api_keys import clean_key
from edit_r1.shared.errors import ConfigError, fault_line
from edit_r1.shared.golden.edits import MIN_SCORE_MASS, Golden, read_calibration
from edit_r1.shared.golden.scenes import SCENES, golden_scenes
from edit_r1.shared.images import DEFAULT_LIMITS, ImageLimits
from edit_r1.shared.schemas import Limits

_SHAPES = Path(__file__).resolve().parents[1] / "worlds" / "shapes"
EMBEDDED_JUDGE = _SHAPES / "judge"
_THINKING_TOKENS = 2048
_MAX_CANDIDATES_SHOWN = 2
"""Candidates in one question of a method that compares them."""


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
        hide_input_in_errors=True,
    )

    model: str = Field(str(EMBEDDED_JUDGE), description="Judge: checkpoint directory or Hugging Face Hub name.")
    model_name: str | None = Field(None, description="Name in responses; by default the last part of `model`.")
    engine: EngineName = Field(
        "auto", description="Engine; auto: vllm if it is installed and there is a GPU; none: no judge, only measures."
    )
    dtype: DtypeName = Field("auto", description="Data type; auto: float32 on CPU, the checkpoint's dtype on GPU.")

    host: str = Field("127.0.0.1", description="Address to listen on; loopback only by default.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    api_key: SecretStr | None = Field(
        None, description="API key; if set, /v1 and /metrics require it as a bearer token."
    )
    log_format: Literal["console", "json"] = Field("console", description="Log format: human-readable lines, or JSON.")

    task_prompts: Path | None = Field(
        None,
        description="Directory of <task>.txt requirement texts; by default the judge's own, else the built-in ones.",
    )
    prompts: Path | None = Field(
        None,
        description="Directory of <name>.txt files that replace base prompts: an adapter's, the judge's own and the "
        "built-in ones.",
    )
    principles: Literal["judge", "texts"] | Path | None = Field(
        None,
        description="Principles for verifiers: `judge` (the judge writes them for each edit), `texts` (the built-in "
        "ones), or a directory of <task>.txt; by default the judge's own directory, else `judge`.",
    )
    calibration: Literal["scenes", "none"] | Path | None = Field(
        None,
        description="Golden edits for the start-up self-test: a directory of NN/{source,done,untouched,wrong}.png and "
        "NN/instruction.txt, `scenes` (built in), or `none` (no self-test); by default those in the judge's own "
        "directory `calibration`, those of the demo world for its judge, else `scenes`.",
    )
    max_reasoning_tokens: int | None = Field(
        None,
        ge=1,
        description="Maximum number of tokens per answer in methods that reason; by default the method's, 256 to 1024.",
    )
    max_thinking_tokens: int | None = Field(
        None,
        ge=0,
        description="Additional tokens per written answer for a thinking judge's thoughts; by default 2048 if its "
        "prompt begins them, else 0.",
    )
    chat_template_kwargs: dict[str, Any] = Field(
        {}, description='Variables of the judge\'s chat template, as JSON, e.g. {"enable_thinking": false}.'
    )
    min_score_mass: float = Field(
        MIN_SCORE_MASS,
        ge=0,
        le=1,
        description="Score mass below which a score is flagged and counted, and the self-test fails.",
    )

    max_opponents: int = Field(
        MAX_OPPONENTS,
        ge=2,
        description="Maximum number of other candidates that the method `ranking` compares each candidate with.",
    )

    max_batch: int = Field(32, ge=1, description="Maximum number of candidates per forward pass.")
    max_model_len: int | None = Field(
        None,
        ge=1,
        description="Maximum number of tokens of prompt and answer together; by default the model's own, with vllm as "
        "many as fit into memory.",
    )
    max_num_batched_tokens: int | None = Field(
        None, ge=1, description="Maximum number of tokens per step, over all prompts; 8192 by default on a GPU (vllm)."
    )
    quantization: str | None = Field(
        None, description="Quantization method by vLLM's name; by default the checkpoint's own, if any (vllm)."
    )
    trust_remote_code: bool = Field(False, description="Execute Python code that the checkpoint contains.")
    min_judge_pixels: int | None = Field(
        None,
        ge=1,
        description="Images with fewer pixels are scaled up for the judge; by default the processor's limit.",
    )
    max_judge_pixels: int | None = Field(
        None,
        ge=1,
        description="Images with more pixels are scaled down for the judge; by default the processor's limit, but at "
        "most 1048576 (1024 x 1024).",
    )
    adapters: dict[str, Path] = Field(
        {},
        description="LoRA adapters, METHOD=DIRECTORY; each serves that method, with the base prompts in its directory "
        "`prompts`. By default the judge's own.",
    )
    methods: dict[str, str] = Field(
        {},
        description="Methods to add, NAME=package.module:attribute; the attribute is a function that returns a Method, "
        "or a Measure class. NAME=NAME for a measure that we ship.",
    )
    method_options: dict[str, dict[str, Any]] = Field(
        {}, description='Options of added measures, as JSON, e.g. {"reward_head": {"model": "DIRECTORY"}}.'
    )
    tensor_parallel_size: int = Field(1, ge=1, description="Number of GPUs each layer is split across (vllm).")
    pipeline_parallel_size: int = Field(1, ge=1, description="Number of pipeline stages (vllm).")
    data_parallel_size: int = Field(1, ge=1, description="Number of model copies behind one front end (vllm).")
    vllm_arguments: dict[str, Any] = Field({}, description="Additional vLLM engine arguments, as JSON.")
    openai_url: str | None = Field(None, description="API root of a running server, e.g. http://host:8000/v1 (openai).")
    openai_mode: OpenAIMode = Field(
        "auto",
        description="exact: a vLLM whose checkpoint is `model`; compatible: any API, where `model` is a name; auto: "
        "exact if the server can (openai).",
    )
    openai_key: SecretStr | None = Field(None, description="API key of that server (openai).")
    openai_model: str | None = Field(None, description="The judge's name on that server; by default `model` (openai).")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="Fraction of GPU memory to use (vllm).")

    max_body_bytes: int = Field(256 * 2**20, ge=1, description="Maximum size of a request in bytes.")
    max_image_bytes: int = Field(
        DEFAULT_LIMITS.max_bytes, ge=1, description="Maximum encoded size of one image in bytes."
    )
    max_image_pixels: int = Field(
        DEFAULT_LIMITS.max_pixels, ge=1, description="Maximum width times height of one image."
    )
    max_candidates: int = Field(64, ge=1, description="Maximum number of candidates per group.")
    max_groups: int = Field(64, ge=1, description="Maximum number of groups per batch request.")
    max_sources: int = Field(4, ge=1, description="Maximum number of source images per edit.")
    max_text_chars: int = Field(
        8192, ge=1, description="Maximum length of an instruction or requirement in characters."
    )
    max_queued_candidates: int = Field(
        4096, ge=1, description="Maximum number of candidates in the service at once; further requests get 429."
    )
    request_seconds: float = Field(
        300.0, gt=0, description="Time limit of a request in seconds, after which it gets 503."
    )
    drain_seconds: float = Field(60.0, ge=0, description="Time limit for running requests after SIGTERM, in seconds.")
    keep_alive_seconds: int = Field(120, ge=1, description="Seconds after which an idle connection is closed.")

    @field_validator("api_key", "openai_key")
    @classmethod
    def _clean_keys(cls, value: SecretStr | None) -> SecretStr | None:
        cleaned = clean_key(value.get_secret_value()) if value else ""
        return SecretStr(cleaned) if cleaned else None

    def thinking_tokens(self, judge_thinks: bool) -> int:
        """Tokens for thoughts, given whether the judge's prompt begins them."""
        default = _THINKING_TOKENS if judge_thinks else 0
        return default if self.max_thinking_tokens is None else self.max_thinking_tokens

    @property
    def limits(self) -> Limits:
        """The limits shown by GET /v1/info."""
        return Limits(**{name: getattr(self, name) for name in Limits.model_fields})

    @property
    def image_limits(self) -> ImageLimits:
        """The limits of one image."""
        return ImageLimits(max_bytes=self.max_image_bytes, max_pixels=self.max_image_pixels)

    @property
    def engine_options(self) -> EngineOptions:
        """The engine's options."""
        return EngineOptions(
            model=self.model,
            chat_template_kwargs=self.chat_template_kwargs,
            dtype=self.dtype,
            max_batch=self.max_batch,
            max_images=self.max_sources + _MAX_CANDIDATES_SHOWN,
            max_model_len=self.max_model_len,
            adapters=self.adapter_directories,
            tensor_parallel_size=self.tensor_parallel_size,
            pipeline_parallel_size=self.pipeline_parallel_size,
            data_parallel_size=self.data_parallel_size,
            vllm_arguments=self.vllm_arguments,
            openai_url=self.openai_url,
            openai_key=self.openai_key.get_secret_value() if self.openai_key else None,
            openai_model=self.openai_model,
            openai_mode=self.openai_mode,
            max_reasoning_tokens=self.max_reasoning_tokens,
            gpu_memory_utilization=self.gpu_memory_utilization,
            min_judge_pixels=self.min_judge_pixels,
            max_judge_pixels=self.max_judge_pixels,
            max_num_batched_tokens=self.max_num_batched_tokens,
            quantization=self.quantization,
            trust_remote_code=self.trust_remote_code,
        )

    @property
    def display_name(self) -> str:
        """The judge's name in responses."""
        return self.model_name or ("none" if self.engine == "none" else Path(self.model).name)

    @property
    def judge_prompts(self) -> Path | None:
        """Directory of base prompts in the checkpoint, which those in `prompts` replace; None if there is none."""
        return self._own("prompts")

    @property
    def task_prompts_directory(self) -> Path:
        """Directory of task prompts: as set, else in the checkpoint, else the built-in ones."""
        return self.task_prompts or self._own("task_prompts") or TASKS_DIRECTORY

    @property
    def principles_directory(self) -> Path | None:
        """Directory of principles: as set, else in the checkpoint; None: the judge writes them."""
        if self.principles is None:
            return self._own("principles")
        if self.principles == "judge":
            return None
        return PRINCIPLES_DIRECTORY if self.principles == "texts" else Path(self.principles)

    @property
    def adapter_directories(self) -> dict[str, Path]:
        """LoRA adapters by method: as set, else those in the checkpoint."""
        own = self._own("adapters")
        found = {path.parent.name: path.parent for path in own.glob("*/adapter_config.json")} if own else {}
        return self.adapters or dict(sorted(found.items()))

    def _own(self, name: str) -> Path | None:
        """A directory inside the judge's checkpoint, if it exists."""
        if self.engine == "none":
            return None
        own = Path(self.model) / name
        return own if own.is_dir() else None

    @property
    def golden_edits(self) -> Sequence[Golden]:
        """Golden edits for the self-test; empty: none wanted. Raises ConfigError."""
        if "none" in (self.calibration, self.engine):
            return ()
        samples = _SHAPES / "samples"
        is_embedded = Path(self.model).resolve() == EMBEDDED_JUDGE.resolve() and samples.is_dir()
        chosen = self.calibration or self._own("calibration") or (samples if is_embedded else SCENES)
        return golden_scenes() if chosen == SCENES else read_calibration(Path(chosen))


def settings_from(arguments: Sequence[str]) -> Settings:
    """Settings from flags and environment. `--help` and unknown flags exit the process, like argparse.

    Raises:
        ConfigError: a value is invalid; lists every mistake.

    """
    try:
        return CliApp.run(Settings, cli_args=list(arguments))
    except ValidationError as error:
        faults = [f"  {fault_line(fault)}" for fault in error.errors()]
        raise ConfigError("\n".join(["the settings of the reward service are not valid:", *faults])) from error
