"""The trainer's configuration: one frozen model, every field documented, defaults from Table 5 of the paper.

YAML and dotted overrides are read into a TrainConfig. This module does not import torch.
Paths are relative to the working directory; a missing `worlds/...` path falls back to the installed package.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from edit_r1.shared.config import ConfigModel, load_config
from edit_r1.shared.connections.api_keys import clean_key
from edit_r1.shared.errors import ConfigError
from edit_r1.shared.fields import Names
from edit_r1.shared.images import Codec
from edit_r1.shared.schemas import DEFAULT_METHOD, Combination, CompositeRecipe
from edit_r1.trainer.machine import bundled_files
from edit_r1.trainer.mathematics.dealing import num_parts
from edit_r1.trainer.models import FAMILIES
from edit_r1.trainer.tasks.columns import Columns

API_KEY_VARIABLE = "REWARD_API_KEY"
CONFIG_NAME = "config.yaml"
"""File name of the resolved configuration, in the run directory and in each checkpoint."""
CHECKPOINTS_NAME = "checkpoints"
"""Subdirectory of the run directory that holds the checkpoints."""
Scale = Annotated[float, Field(gt=1, allow_inf_nan=False)]
"""Scale of true classifier-free guidance."""
_TAKEN_NAMES = frozenset({"group", "reward", "second"})
"""Metrics `reward/NAME_mean` or `reward/NAME_std` of these names mean something else."""


class RewardTerm(ConfigModel):
    """One of several rewards: a service, a method and a weight."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)
    """Name in metrics and messages, such as `ocr`: lower-case letters, digits and underscores."""
    method: str
    """Scoring method, one of those listed by the service's GET /v1/methods."""
    url: Names | None = Field(default=None, min_length=1)
    """Base URL of the term's reward service, or those of its replicas; None uses `reward.url`."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Weight relative to the other terms, in the reward and in the advantage."""
    num_passes: PositiveInt = 1
    """Number of sampled answers averaged per candidate, for sampling methods."""
    composite: CompositeRecipe | None = Field(default=None, discriminator="rule")
    """Recipe of the method `composite`; None uses the service's own."""
    api_key_variable: str | None = None
    """Environment variable with the bearer token of the term's service; None uses `reward.api_key`."""

    @field_validator("name")
    @classmethod
    def _no_name_of_another_metric(cls, value: str) -> str:
        if value in _TAKEN_NAMES:
            raise ValueError(f"must not be one of {', '.join(sorted(_TAKEN_NAMES))}, which other metrics have")
        return value


class RewardConfig(ConfigModel):
    """The reward service and how it is called."""

    url: Names = ("http://127.0.0.1:8000",)
    """Base URL of the reward service; for several replicas a list, or a pattern such as `http://node{01..09}:8000`."""
    method: str = DEFAULT_METHOD
    """Scoring method, one of those listed by the service's GET /v1/methods."""
    composite: CompositeRecipe | None = Field(default=None, discriminator="rule")
    """Recipe of the method `composite`; None uses the service's own."""
    terms: tuple[RewardTerm, ...] | None = None
    """Several rewards, each with its own service, method and weight, in place of `method`, `num_passes` and
    `composite`: the reward is their weighted mean, and each is normalised separately. None: a single reward."""
    codec: Codec = "raw"
    """Image encoding for requests, lossless either way: `raw` is large and fast, `webp` halves the bytes for 9 ms per
    image."""
    api_key: str | None = Field(default=None, exclude=True, repr=False)
    """Bearer token of the service; None reads the variable REWARD_API_KEY. Never written to the run directory."""
    num_passes: PositiveInt = 1
    """Number of sampled answers averaged per candidate, for sampling methods."""
    wait_seconds: NonNegativeFloat = 600.0
    """Seconds to wait at start-up for the service to become ready."""
    timeout_seconds: PositiveFloat = 300.0
    """Timeout of a single attempt of a request, in seconds."""
    deadline_seconds: PositiveFloat = 1800.0
    """Seconds an epoch waits for its rewards, once its rollouts are done, while the service is unreachable, busy or
    restarting; after that the run writes a checkpoint and stops."""
    max_missing_fraction: float = Field(default=0.5, ge=0, lt=1)
    """Stop the run when the service responds but more than this fraction of an epoch's scores is missing."""
    max_in_flight: PositiveInt = 16
    """Maximum number of groups in flight per process."""

    @field_validator("api_key", mode="before")
    @classmethod
    def _clean_key(cls, value: object) -> object:
        if value is None:
            return _key_from_environment()
        return clean_key(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_terms(self) -> RewardConfig:
        if self.terms is None:
            return self
        names = [term.name for term in self.terms]
        if not names:
            raise ValueError("terms = [] must hold at least one reward; leave it out for a single reward")
        if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ValueError(f"terms: the name {repeated[0]!r} is given {names.count(repeated[0])} times")
        for key in ("method", "num_passes", "composite"):
            value = getattr(self, key)
            if value != type(self).model_fields[key].default:
                raise ValueError(f"{key} = {value!r} must be left out with reward.terms: set it in each term instead")
        return self


def _key_from_environment() -> str | None:
    try:
        return clean_key(os.environ.get(API_KEY_VARIABLE, "")) or None
    except ValueError as error:
        raise ValueError(f"the variable {API_KEY_VARIABLE}: {error}") from None


def _as_path(value: object) -> object:
    """A path as text in its shortest form, as saved configurations have it; leaves anything else to pydantic."""
    return str(Path(value)) if isinstance(value, str | Path) else value


ListName = Annotated[str, BeforeValidator(_as_path)]
"""Path or name of a task list."""


class DataConfig(ConfigModel):
    """The task lists."""

    train: ListName
    """Task list to train on: a file of JSON lines, or any data set that the `datasets` library reads
    (docs/data.md): parquet files, WebDataset shards, a directory, `hub:OWNER/NAME:SPLIT`."""
    root: Path | None = None
    """Directory that image paths are relative to; None means the directory of each list."""
    held_out: ListName | None = None
    """Task list to evaluate on; None disables evaluation."""
    columns: Columns | None = None
    """Columns that make tasks, for data sets with other names than ours; None means our own names."""


class ModelConfig(ConfigModel):
    """The editor."""

    family: str = "flux_kontext"
    """Model family: a key of `trainer.models.FAMILIES`, or package.module:Class (docs/model-families.md)."""
    path: str
    """Local directory or Hub name of the diffusers pipeline."""
    width: PositiveInt = 512
    """Width in pixels of resized sources and of edits (Table 5: 512)."""
    height: PositiveInt = 512
    """Height in pixels (Table 5: 512)."""
    aspect: Literal["crop", "buckets", "stretch"] = "crop"
    """How images of other shapes are trained at width x height. crop: cut the centre out, as the paper's released
    trainer does, so it is the default; objects near the edges may be lost. buckets: use for each image the size of
    about that area with the nearest aspect ratio, and cut only what differs from it; best for images of mixed shapes.
    stretch: squeeze, so circles become ellipses (formerly `fixed`). The edited image has the size of the first
    source."""
    max_aspect: float = Field(default=2.0, ge=1)
    """With buckets, the maximum ratio of the longer side to the shorter."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute precision of everything except the VAE (always float32); auto is bfloat16 on an accelerator, float32 on
    a CPU."""
    vae_pixels: PositiveInt = 1024 * 1024
    """Maximum number of pixels that the VAE encodes or decodes at once, though always at least one image: bounds its
    memory. The default is one image of 1024x1024, or four of 512x512."""
    max_text_tokens: PositiveInt | None = None
    """Token length that instructions are padded to; None uses the tokenizer's own limit, at most 512."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: uses less memory and about a third more time."""
    sharding: Literal["none", "fsdp"] = "none"
    """none: every process holds the whole model. fsdp: shard transformer and text encoders over all processes
    (FSDP2); with tuning = full every process also writes its own shards of a checkpoint, for which run_dir must be on a
    file system that all nodes share."""
    text_encoders: Literal["resident", "offload"] = "resident"
    """offload: keep text encoders on the accelerator only while they encode, at the cost of one transfer per batch."""
    compile: Literal["none", "inductor", "aot_eager"] = "none"
    """torch.compile backend for the transformer's repeated blocks (regional compilation): costs a minute at the start,
    then runs faster. inductor on a CPU needs a C++ compiler; aot_eager is for debugging."""
    quantization: Literal["none", "int8"] = "none"
    """int8: store the frozen weights of transformer and text encoders in 8 bits (torchao; extra `quant`). LoRA only."""

    @property
    def location(self) -> str:
        """`path` itself, or the directory of that name in the installed package."""
        return bundled_files.find(self.path)

    @field_validator("family")
    @classmethod
    def _known_family(cls, value: str) -> str:
        if value not in FAMILIES and ":" not in value:
            raise ValueError(f"unknown model family; known: {', '.join(FAMILIES)}, or package.module:Class")
        return value


class RolloutConfig(ConfigModel):
    """Generation of candidates."""

    steps: PositiveInt = 6
    """DPM-Solver++ steps (Table 5: 6)."""
    guidance: PositiveFloat = 2.5
    """Embedded guidance, in rollout, training and evaluation alike (published code: 2.5)."""
    true_cfg: Scale | None = None
    """Scale of true classifier-free guidance in rollouts, above 1 (diffusers' `true_cfg_scale`; `guidance_scale` of
    FLUX.2 [klein]); doubles their cost. None: without a negative branch. The loss has none either way. Not with
    flow_grpo, and only for families with a negative branch (docs/model-families.md)."""
    negative_prompt: str | None = None
    """Prompt of the negative branch. None uses the family's: one space for Qwen-Image-Edit, else the empty text."""
    batch_groups: PositiveInt = 1
    """Groups generated in one batch; larger is faster for small models. Processes get whole batches, or parts of them
    (`group_parts`)."""
    group_parts: PositiveInt | Literal["auto"] = "auto"
    """Parts into which a group's candidates are divided; each is generated, scored and trained on by one process.
    auto: 1, unless there are more processes than batches of groups, as for 24 groups on 48 or 72 GPUs. A fixed number
    makes the batches the same on any number of processes."""


class NftConfig(ConfigModel):
    """The DiffusionNFT objective."""

    beta: PositiveFloat = 1.0
    """Distance of the implicit policies from the old policy; 1/beta is the guidance strength (Table 5: 1.0)."""
    kl_weight: NonNegativeFloat = 1e-4
    """Weight of mean((v_theta - v_ref)^2) (Table 5: 1e-4); 0 skips the reference forward pass."""
    weighting: Literal["adaptive", "velocity"] = "adaptive"
    """`adaptive`: self-normalised in x0 space, like the published code; `velocity`: Eq. 4 exactly as written."""


class GrpoConfig(ConfigModel):
    """The Flow-GRPO objective, used as a baseline (algorithm: flow_grpo)."""

    noise_level: PositiveFloat = 0.7
    """Noise level of the stochastic rollout (arXiv:2505.05470: 0.7)."""
    clip_range: PositiveFloat = 1e-4
    """Clip range of the probability ratio; small because log-probabilities are means over dimensions."""
    kl_weight: NonNegativeFloat = 0.0
    """Weight of the divergence from the reference policy; 0 skips the reference forward pass."""


class AdvantageConfig(ConfigModel):
    """From rewards to optimality."""

    std: Literal["global", "group"] = "global"
    """Rewards that the standard deviation is taken over: the whole epoch's or the group's."""
    per_component: bool = False
    """For a composite reward with rule `mean`: compute one advantage per component before the weighted sum."""
    mode: Literal["all", "positive_only", "negative_only", "one_only", "binary"] = "all"
    """Transformation of advantages before they are mapped to optimality."""


class FilterConfig(ConfigModel):
    """The group filter (Section 2.3)."""

    rule: Literal["paper", "strict", "range", "none"] = "paper"
    """Rule that decides which groups are dropped; see `trainer.mathematics.filtering`. The published code's filter is
    `strict` with ban = true."""
    ban: bool = False
    """Never sample a task again once its group has met the paper's condition: mean above tau_mean, spread below
    tau_spread. Works with every rule."""
    tau_mean: float = 0.9
    """Threshold for a group's mean reward (tau_mu)."""
    tau_spread: NonNegativeFloat = 0.05
    """Threshold for a group's spread (tau_sigma)."""
    spread: Literal["std", "variance"] = "std"
    """Statistic compared with tau_spread; the published code uses std, the paper's text says variance."""
    min_range: NonNegativeFloat = 0.05
    """For rule `range`: drop a group when max - min of its rewards is below this."""
    quorum: PositiveInt = 2
    """Minimum number of scored candidates; a group with fewer is dropped."""
    refill_rounds: NonNegativeInt = 1
    """Maximum number of times per epoch that groups below the quorum are replaced by groups of other tasks."""
    in_global_std: bool = True
    """Whether rewards of dropped groups still count towards the global standard deviation."""


class LoraConfig(ConfigModel):
    """The trained adapter."""

    rank: PositiveInt = 32
    """Rank of the update matrices (published code: 32)."""
    alpha: PositiveFloat = 64.0
    """Scaling numerator: updates are scaled by alpha / rank (published code: 64)."""
    targets: tuple[str, ...] | None = None
    """Module name suffixes that get an adapter; None uses the model family's attention layers."""


class OptimizerConfig(ConfigModel):
    """AdamW."""

    learning_rate: PositiveFloat = 3e-4
    """Constant learning rate (Table 5: 3e-4)."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the first and second moments."""
    weight_decay: NonNegativeFloat = 1e-4
    """Decoupled weight decay (published code: 1e-4)."""
    eps: PositiveFloat = 1e-8
    """Added to the denominator for numerical stability."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients with a larger norm are scaled down to this norm."""


class EvaluationConfig(ConfigModel):
    """Evaluation on held-out tasks with the EMA weights: before, during and after training."""

    every: NonNegativeInt = 0
    """Epochs between evaluations during training; 0 evaluates at the start and the end only."""
    steps: PositiveInt = 15
    """Euler steps (published code: 15)."""
    true_cfg: Scale | Literal["rollout"] | None = "rollout"
    """Scale of true classifier-free guidance in evaluations. rollout: the same as in rollouts. None: without a negative
    branch."""
    negative_prompt: str | None = None
    """Prompt of the negative branch; None uses that of rollouts."""
    method: str | None = None
    """Scoring method of held-out edits, asked of the first reward's service; None: as in training. Required when the
    reward compares the candidates of a group (`ranking`), because an evaluation has one edit per task."""
    tasks: PositiveInt | None = None
    """Number of held-out tasks, taken from the top of the list; None uses all."""
    batch_size: PositiveInt = 8
    """Tasks edited in one batch."""
    seed: NonNegativeInt = 0
    """Seed of the noise; the same in every evaluation, so that before and after are paired samples."""
    metrics: dict[str, str] = Field(default_factory=dict)
    """Maps a name to `package.module:function`, which is called with (task, edited image) and returns a float."""
    pictures: NonNegativeInt = 12
    """Number of edited images kept for the report."""


class CheckpointConfig(ConfigModel):
    """Checkpoints in RUN_DIR/checkpoints/step-N, where N is the number of finished epochs."""

    every: NonNegativeInt = 10
    """Epochs between checkpoints; 0 writes only the final one."""
    minutes: PositiveFloat | None = None
    """Also write a checkpoint after an epoch once this many minutes have passed since the last one; None never does.
    Requires max_staleness = 0."""
    keep: PositiveInt = 2
    """Number of newest checkpoints to keep."""


class ReportConfig(ConfigModel):
    """Rollout images shown in the report."""

    every: PositiveInt = 10
    """Epochs between rollouts whose images are kept (in addition to the first and the last)."""
    groups: NonNegativeInt = 4
    """Groups kept per such epoch."""


class MonitorConfig(ConfigModel):
    """Monitoring for signs of reward hacking, with the threshold of each alarm; null disables an alarm."""

    second_method: str | None = None
    """A scoring method not used for training that scores some of the same edits; None disables it."""
    second_groups: PositiveInt = 2
    """Groups per epoch scored by the second method."""
    window: PositiveInt = 5
    """Epochs over which a value is averaged before it is compared with its limit."""
    min_group_std: NonNegativeFloat | None = 0.03
    """Alarm when the standard deviation of rewards within groups falls below this."""
    min_score_mass: NonNegativeFloat | None = 0.5
    """Alarm when the judge's score mass falls below this."""
    max_unedited_growth: PositiveFloat | None = 2.0
    """Alarm when the half of the pixels that changes least changes this many times as much as at the start."""
    max_kl_to_base: PositiveFloat | None = None
    """Alarm when mean((v_theta - v_ref)^2) exceeds this; its typical size depends on the model."""
    max_second_gap: NonNegativeFloat | None = 0.1
    """Alarm when the reward has risen by more than this beyond the second method's score of the same edits."""
    max_missing_fraction: NonNegativeFloat | None = 0.1
    """Alarm when more than this fraction of candidates has no score."""


class TrainConfig(ConfigModel):
    """A training run. Defaults are Table 5 of arXiv:2510.16888."""

    run_dir: Path
    """Run directory: configuration, metrics, checkpoints, report. In a multi-node run all machines must share it."""
    epochs: PositiveInt = 100
    """Total epochs of the run, including those finished before a resume."""
    seed: NonNegativeInt = 0
    """Seed of all randomness, independent of the number of processes."""
    resume: str = "auto"
    """auto: resume from the newest complete checkpoint in run_dir, if any. none: refuse a run_dir already in use.
    Otherwise the path of a checkpoint."""
    cpu_threads: PositiveInt | None = None
    """Number of torch CPU threads; None keeps torch's default."""
    tuning: Literal["lora", "full"] = "lora"
    """lora: train adapters on frozen weights. full: train all transformer weights, keeping three copies of them (old,
    EMA, reference); use a lower learning rate, and model.sharding=fsdp for large models."""
    algorithm: Literal["nft", "flow_grpo"] = "nft"
    """nft: DiffusionNFT. flow_grpo: policy gradient on stochastic rollouts, on-policy (like old_decay_type 0)."""
    groups_per_epoch: PositiveInt = 24
    """P, groups per epoch over all processes (Table 5: 24)."""
    group_size: int = Field(default=12, ge=2)
    """G, candidates per group (Table 5: 12)."""
    optimizer_steps_per_epoch: PositiveInt = 1
    """Number of optimizer steps that an epoch's samples are split into."""
    trained_timesteps: PositiveInt | None = None
    """K, number of timesteps of the rollout grid each sample is trained on; None means int(0.99 rollout.steps)."""
    micro_batch_size: PositiveInt = 8
    """Maximum number of (sample, timestep) pairs per forward and backward pass."""
    max_staleness: NonNegativeInt = 0
    """Number of epochs rolled out ahead while an earlier epoch waits for its rewards; 0 is strictly on-policy. Rollouts
    never run ahead across an epoch of checkpoint.every, so a run resumed there is identical to an uninterrupted one."""
    adv_clip: PositiveFloat = 5.0
    """Magnitude of the advantage, in standard deviations, at which optimality reaches 0 or 1."""
    old_decay_type: Literal[0, 1, 2] = 1
    """Decay of the old policy after s optimizer steps. 0: none (on-policy). 1: min(0.001 s, 0.5), used for editing.
    2: none until s = 75, then min(0.0075 (s - 75), 0.999)."""
    ema_decay: float = Field(default=0.9, ge=0, lt=1)
    """Maximum decay of the EMA weights."""

    reward: RewardConfig = Field(default_factory=RewardConfig)
    data: DataConfig
    model: ModelConfig
    rollout: RolloutConfig = Field(default_factory=RolloutConfig)
    nft: NftConfig = Field(default_factory=NftConfig)
    grpo: GrpoConfig = Field(default_factory=GrpoConfig)
    advantage: AdvantageConfig = Field(default_factory=AdvantageConfig)
    filter: FilterConfig = Field(default_factory=FilterConfig)
    lora: LoraConfig = Field(default_factory=LoraConfig)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig)
    monitor: MonitorConfig = Field(default_factory=MonitorConfig)
    trackers: tuple[Literal["wandb", "trackio"], ...] = ()
    """Trackers used in addition to metrics.jsonl and TensorBoard; configured by their own environment variables
    (WANDB_MODE, ...)."""
    tracker_project: str = "edit-r1"
    """Project name used by the trackers."""
    report: ReportConfig = Field(default_factory=ReportConfig)

    @property
    def evaluation_true_cfg(self) -> float | None:
        """Scale of true classifier-free guidance in evaluations; None without a negative branch."""
        own = self.evaluation.true_cfg
        return self.rollout.true_cfg if own == "rollout" else own

    @model_validator(mode="before")
    @classmethod
    def _accept_former_values(cls, values: Any) -> Any:
        return with_current_values(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _check_geometry(self) -> TrainConfig:
        if self.filter.quorum > self.group_size:
            raise ValueError(f"filter.quorum = {self.filter.quorum} must be at most group_size = {self.group_size}")
        if self.trained_timesteps is not None and self.trained_timesteps > self.rollout.steps:
            raise ValueError(
                f"trained_timesteps = {self.trained_timesteps} must be in 1..{self.rollout.steps} (rollout.steps)"
            )
        recipe = self.reward.composite
        if self.advantage.per_component and self.reward.terms is not None:
            raise ValueError(
                "advantage.per_component must be false with reward.terms: terms are always normalised one by one; make "
                "each component a term"
            )
        if self.advantage.per_component and not (isinstance(recipe, Combination) and recipe.rule == "mean"):
            raise ValueError("advantage.per_component requires reward.composite with `rule: mean` and weights")
        if self.algorithm == "flow_grpo" and not (self.trained_timesteps or 1) < self.rollout.steps:
            raise ValueError(
                f"trained_timesteps = {self.trained_timesteps or 1} must be below rollout.steps = "
                f"{self.rollout.steps}: the last step is deterministic and flow_grpo cannot train on it"
            )
        if self.algorithm == "flow_grpo" and self.max_staleness:
            raise ValueError(f"max_staleness = {self.max_staleness} must be 0: flow_grpo is on-policy")
        if self.max_staleness and self.checkpoint.minutes is not None:
            raise ValueError(
                f"max_staleness = {self.max_staleness} must be 0 with checkpoint.minutes: rollouts must not run ahead "
                "across a checkpoint, and nobody knows beforehand where the clock will put it"
            )
        if self.model.quantization != "none" and (self.tuning == "full" or self.model.sharding == "fsdp"):
            raise ValueError(
                f"model.quantization = {self.model.quantization} requires tuning = lora and model.sharding = none"
            )
        if self.rollout.group_parts != "auto" and self.rollout.group_parts > self.group_size:
            raise ValueError(
                f"rollout.group_parts = {self.rollout.group_parts} must be auto or in 1..{self.group_size} (group_size)"
            )
        samples = self.groups_per_epoch * self.group_size
        if self.optimizer_steps_per_epoch > samples:
            raise ValueError(
                f"optimizer_steps_per_epoch = {self.optimizer_steps_per_epoch} must be in 1..{samples} "
                f"(groups_per_epoch x group_size)"
            )
        return self

    @model_validator(mode="after")
    def _check_true_cfg(self) -> TrainConfig:
        if self.algorithm == "flow_grpo" and self.rollout.true_cfg is not None:
            raise ValueError(
                f"rollout.true_cfg = {self.rollout.true_cfg:g} must be null with algorithm = flow_grpo: the update "
                "compares log-probabilities of the policy without a negative branch, and steps taken with one are no "
                "samples of it"
            )
        for key, scale, prompt in (
            ("rollout", self.rollout.true_cfg, self.rollout.negative_prompt),
            ("evaluation", self.evaluation_true_cfg, self.evaluation.negative_prompt),
        ):
            if scale is None and prompt is not None:
                raise ValueError(f"{key}.negative_prompt = {prompt!r} must be null without {key}.true_cfg")
        return self


def with_current_values(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration written before values were renamed, with today's: existing runs stay usable.

    model.aspect = fixed is stretch; filter.rule = ban is the rule paper with ban = true. Raises ValueError when the
    latter contradicts filter.ban.
    """
    model, rules = values.get("model"), values.get("filter")
    if isinstance(model, dict) and model.get("aspect") == "fixed":
        values = {**values, "model": {**model, "aspect": "stretch"}}
    if isinstance(rules, dict) and rules.get("rule") == "ban":
        if rules.get("ban", True) is not True:
            raise ValueError("filter.rule = ban means filter.rule = paper with filter.ban = true: set these two")
        values = {**values, "filter": {**rules, "rule": "paper", "ban": True}}
    return values


def read_config(path: Path, overrides: Sequence[str]) -> TrainConfig:
    """Read a configuration file and apply `dotted.key=value` overrides. Raises ConfigError."""
    path = bundled_files.find_path(path)
    if not path.is_file():
        raise ConfigError(f"configuration {path} does not exist")
    return load_config(TrainConfig, path, overrides)


def group_parts(config: TrainConfig, num_processes: int) -> int:
    """Parts into which each group's candidates are divided on this many processes."""
    fixed = config.rollout.group_parts
    return num_parts(_num_batches(config), config.group_size, num_processes) if fixed == "auto" else fixed


def check_world_size(config: TrainConfig, num_processes: int) -> None:
    """Every process needs at least one part of a batch of groups. Raises ConfigError with the valid range."""
    rollout = config.rollout
    most = _num_batches(config) * (config.group_size if rollout.group_parts == "auto" else rollout.group_parts)
    if num_processes > most:
        further = "" if rollout.group_parts == "auto" else ", or set rollout.group_parts=auto"
        raise ConfigError(
            f"{num_processes} processes for groups_per_epoch = {config.groups_per_epoch} of group_size = "
            f"{config.group_size}, in batches of rollout.batch_groups = {rollout.batch_groups} and rollout.group_parts "
            f"= {rollout.group_parts}: the number of processes must be in 1..{most}; for more, lower batch_groups, "
            f"raise groups_per_epoch or group_size{further}"
        )


def _num_batches(config: TrainConfig) -> int:
    return math.ceil(config.groups_per_epoch / config.rollout.batch_groups)
