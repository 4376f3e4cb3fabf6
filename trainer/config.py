"""The trainer's configuration: one frozen model, a sentence under every field, defaults from Table 5 of the paper.

Enters: YAML and dotted overrides. Leaves: a TrainConfig. No torch here.
Paths are relative to the working directory; `worlds/...` that is not there is the installed package's.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from edit_r1.shared.config import ConfigModel, load_config
from edit_r1.shared.errors import ConfigError
from edit_r1.shared.fields import Names
from edit_r1.shared.images import Codec
from edit_r1.shared.schemas import DEFAULT_METHOD, Combination, CompositeRecipe
from edit_r1.trainer.machine import bundled_files as packaged
from edit_r1.trainer.models import FAMILIES

API_KEY_VARIABLE = "REWARD_API_KEY"
CONFIG_NAME = "config.yaml"
"""File of the resolved configuration, in a run directory and in each of its checkpoints."""
CHECKPOINTS_NAME = "checkpoints"
"""Directory of a run's checkpoints."""


class RewardConfig(ConfigModel):
    """The reward service and how it is asked."""

    url: Names = ("http://127.0.0.1:8000",)
    """Root of the reward service; a list, or a pattern as `http://node{01..09}:8000`, when it has several replicas."""
    method: str = DEFAULT_METHOD
    """Scoring method, one that the service's GET /v1/methods lists."""
    composite: CompositeRecipe | None = Field(default=None, discriminator="rule")
    """Recipe of the method `composite`; None: the service's own."""
    codec: Codec = "raw"
    """How images travel, both without loss: `raw` is large and quick, `webp` half the bytes for 9 ms an image."""
    api_key: str | None = Field(default=None, exclude=True, repr=False)
    """Sent as a bearer token; None takes the environment's REWARD_API_KEY. Never written to the run directory."""
    num_passes: PositiveInt = 1
    """Answers averaged a candidate, for sampling methods."""
    wait_seconds: NonNegativeFloat = 600.0
    """How long to wait at start for the service to become ready, in seconds."""
    timeout_seconds: PositiveFloat = 300.0
    """Limit of one try of one request, in seconds."""
    deadline_seconds: PositiveFloat = 1800.0
    """How long an epoch whose rollouts are made waits for its rewards while the service is away, busy or restarting;
    then the run writes a checkpoint and stops."""
    max_missing_fraction: float = Field(default=0.5, ge=0, lt=1)
    """The run stops when the service answers but more than this fraction of an epoch's scores are missing."""
    max_in_flight: PositiveInt = 16
    """Groups on the wire at once, a process."""

    @field_validator("api_key", mode="before")
    @classmethod
    def _key_from_environment(cls, value: str | None) -> str | None:
        return value if value is not None else os.environ.get(API_KEY_VARIABLE)


class DataConfig(ConfigModel):
    """The task lists."""

    train: Path
    """Task list (JSON lines) to train on."""
    root: Path | None = None
    """Directory that image paths are relative to; None: that of each list."""
    held_out: Path | None = None
    """Task list to evaluate on; None turns evaluation off."""


class ModelConfig(ConfigModel):
    """The editor."""

    family: str = "flux_kontext"
    """Model family: a key of `trainer.models.FAMILIES`, or package.module:Class (docs/model-families.md)."""
    path: str
    """Directory or hub name of the diffusers pipeline."""
    width: PositiveInt = 512
    """Width in pixels that sources are resized to and edits are made at (Table 5: 512)."""
    height: PositiveInt = 512
    """Height in pixels (Table 5: 512)."""
    aspect: Literal["fixed", "buckets"] = "fixed"
    """fixed: every picture is resized to width x height. buckets: each to the size of about that area whose shape is
    nearest to its own; the edit has the size of the first source."""
    max_aspect: float = Field(default=2.0, ge=1)
    """Buckets: the longer side is at most this many times the shorter."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of all but the VAE (float32 always); auto is bfloat16 on an accelerator, float32 on a CPU."""
    max_text_tokens: PositiveInt | None = None
    """Length instructions are padded to; None takes the tokenizer's own, at most 512."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    sharding: Literal["none", "fsdp"] = "none"
    """none: every process holds the whole model. fsdp: transformer and text encoders are spread over all (FSDP2)."""
    text_encoders: Literal["resident", "offload"] = "resident"
    """offload: text encoders are on the accelerator only while they encode; costs their transfer once a batch."""
    compile: Literal["none", "inductor", "aot_eager"] = "none"
    """Backend of torch.compile for the transformer's repeated blocks (regional): a minute at the start, then faster;
    inductor on a CPU needs a C++ compiler, aot_eager is for finding faults."""
    quantization: Literal["none", "int8"] = "none"
    """Frozen weights of transformer and text encoders in 8 bits (torchao; extra `quant`), for LoRA."""

    @property
    def location(self) -> str:
        """Where `path` leads from here: itself, or the installed package's own directory of that name."""
        return packaged.find(self.path)

    @field_validator("family")
    @classmethod
    def _known_family(cls, value: str) -> str:
        if value not in FAMILIES and ":" not in value:
            raise ValueError(f"unknown model family; known: {', '.join(FAMILIES)}, or package.module:Class")
        return value


class RolloutConfig(ConfigModel):
    """How candidates are generated."""

    steps: PositiveInt = 6
    """DPM-Solver++ steps (Table 5: 6)."""
    guidance: PositiveFloat = 2.5
    """Embedded guidance, in rollout, training and evaluation alike (published code: 2.5)."""
    batch_groups: PositiveInt = 1
    """Groups generated in one batch and sent off together: the unit that processes share out. More is faster on small
    models."""


class NftConfig(ConfigModel):
    """The DiffusionNFT objective."""

    beta: PositiveFloat = 1.0
    """How far the implicit policies stand from the old one; 1/beta is the guidance strength (Table 5: 1.0)."""
    kl_weight: NonNegativeFloat = 1e-4
    """Weight of mean((v_theta - v_ref)^2) (Table 5: 1e-4); 0 skips the reference forward."""
    weighting: Literal["adaptive", "velocity"] = "adaptive"
    """`adaptive`: self-normalised in x0 space, as published code does; `velocity`: Eq. 4 to the letter."""


class GrpoConfig(ConfigModel):
    """The Flow-GRPO objective, a baseline (algorithm: flow_grpo)."""

    noise_level: PositiveFloat = 0.7
    """Noise that the stochastic rollout adds (arXiv:2505.05470: 0.7)."""
    clip_range: PositiveFloat = 1e-4
    """How far the ratio of probabilities may move; small because log-probabilities are means over dimensions."""
    kl_weight: NonNegativeFloat = 0.0
    """Weight of the divergence from the reference; 0 skips its forward."""


class AdvantageConfig(ConfigModel):
    """From rewards to optimality."""

    std: Literal["global", "group"] = "global"
    """Which rewards the standard deviation is over: all of the epoch, or the group's."""
    per_component: bool = False
    """Of a composite reward with rule `mean`: make each component an advantage by itself before the weighted sum."""
    mode: Literal["all", "positive_only", "negative_only", "one_only", "binary"] = "all"
    """How advantages are reshaped before they become optimality."""


class FilterConfig(ConfigModel):
    """The group filter (Section 2.3)."""

    rule: Literal["paper", "strict", "ban", "range", "none"] = "paper"
    """Which groups are dropped; see `trainer.mathematics.filtering`."""
    tau_mean: float = 0.9
    """Threshold for a group's mean reward (tau_mu)."""
    tau_spread: NonNegativeFloat = 0.05
    """Threshold for a group's spread (tau_sigma)."""
    spread: Literal["std", "variance"] = "std"
    """What is compared with tau_spread; published code uses std, the paper's text says variance."""
    min_range: NonNegativeFloat = 0.05
    """Rule `range`: drop when max - min of the group's rewards is below this."""
    quorum: PositiveInt = 2
    """A group with fewer scored candidates is dropped."""
    refill_rounds: NonNegativeInt = 1
    """How often an epoch's groups without a quorum are replaced by groups of other tasks."""
    in_global_std: bool = True
    """Whether rewards of dropped groups still enter the global standard deviation."""


class LoraConfig(ConfigModel):
    """The trained adapter."""

    rank: PositiveInt = 32
    """Rank of the update matrices (published code: 32)."""
    alpha: PositiveFloat = 64.0
    """Scaling numerator: updates count alpha / rank times (published code: 64)."""
    targets: tuple[str, ...] | None = None
    """Module names (suffixes) that get an adapter; None takes the model family's attention layers."""


class OptimizerConfig(ConfigModel):
    """AdamW."""

    learning_rate: PositiveFloat = 3e-4
    """Constant learning rate (Table 5: 3e-4)."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the first and second moment."""
    weight_decay: NonNegativeFloat = 1e-4
    """Decoupled weight decay (published code: 1e-4)."""
    eps: PositiveFloat = 1e-8
    """Added to the denominator."""
    max_grad_norm: PositiveFloat = 1.0
    """The gradient is scaled down to this norm when it is longer."""


class EvaluationConfig(ConfigModel):
    """Evaluation on held-out tasks with the EMA weights, at start, on the way, and at the end."""

    every: NonNegativeInt = 0
    """Epochs between evaluations on the way; 0 evaluates at start and end only."""
    steps: PositiveInt = 15
    """Euler steps (published code: 15)."""
    tasks: PositiveInt | None = None
    """How many held-out tasks, from the top of the list; None takes all."""
    batch_size: PositiveInt = 8
    """Tasks edited in one batch."""
    seed: NonNegativeInt = 0
    """Seed of the noise; the same in every evaluation, so that before and after are paired."""
    metrics: dict[str, str] = Field(default_factory=dict)
    """Name -> `package.module:function`, called with (task, edited image), returns a float."""
    pictures: NonNegativeInt = 12
    """How many edits are kept as pictures for the report."""


class CheckpointConfig(ConfigModel):
    """Checkpoints in RUN_DIR/checkpoints/step-N, N = epochs finished."""

    every: NonNegativeInt = 10
    """Epochs between checkpoints; 0 writes only the last one."""
    keep: PositiveInt = 2
    """How many of the newest checkpoints stay."""


class ReportConfig(ConfigModel):
    """The pictures that the report shows of rollouts."""

    every: PositiveInt = 10
    """Epochs between rollouts whose pictures are kept (besides the first and the last)."""
    groups: NonNegativeInt = 4
    """Groups kept of each."""


class MonitorConfig(ConfigModel):
    """What is watched for signs of reward hacking, and when an alarm is raised; null turns an alarm off."""

    second_method: str | None = None
    """A scoring method that training does not use: it looks at some of the same edits. None: none does."""
    second_groups: PositiveInt = 2
    """Groups an epoch that the second method looks at."""
    window: PositiveInt = 5
    """Epochs that a value is averaged over before it is compared."""
    min_group_std: NonNegativeFloat | None = 0.03
    """Alarm when rewards within groups spread less than this."""
    min_score_mass: NonNegativeFloat | None = 0.5
    """Alarm when the judge puts less of its probability than this on score tokens."""
    max_unedited_growth: PositiveFloat | None = 2.0
    """Alarm when the half of the pixels that changes least changes this many times as much as at the start."""
    max_kl_to_base: PositiveFloat | None = None
    """Alarm when mean((v_theta - v_ref)^2) is above this; its size depends on the model."""
    max_second_gap: NonNegativeFloat | None = 0.1
    """Alarm when the reward has risen by this much more than the second method's score of the same edits."""
    max_missing_fraction: NonNegativeFloat | None = 0.1
    """Alarm when more candidates than this have no score."""


class TrainConfig(ConfigModel):
    """A training run. Defaults are Table 5 of arXiv:2510.16888."""

    run_dir: Path
    """Directory of this run: configuration, metrics, checkpoints, report. Several machines must share it."""
    epochs: PositiveInt = 100
    """Epochs of the whole run; a resumed run counts the ones it has behind it."""
    seed: NonNegativeInt = 0
    """Seed of everything random, independent of the number of processes."""
    resume: str = "auto"
    """auto: from the newest whole checkpoint in run_dir, if any; none: refuse a used run_dir; or a checkpoint."""
    cpu_threads: PositiveInt | None = None
    """Threads of torch on a CPU; None leaves torch's own choice."""
    tuning: Literal["lora", "full"] = "lora"
    """lora: adapters on frozen weights. full: all weights of the transformer, with three copies of them (old, EMA,
    reference); wants a lower learning rate, and model.sharding=fsdp for large models."""
    algorithm: Literal["nft", "flow_grpo"] = "nft"
    """nft: DiffusionNFT. flow_grpo: policy gradient on stochastic rollouts, on-policy (as with old_decay_type 0)."""
    groups_per_epoch: PositiveInt = 24
    """P, groups of an epoch over all processes (Table 5: 24)."""
    group_size: int = Field(default=12, ge=2)
    """G, candidates a group (Table 5: 12)."""
    optimizer_steps_per_epoch: PositiveInt = 1
    """Optimizer steps that an epoch's samples are split into."""
    trained_timesteps: PositiveInt | None = None
    """K, timesteps of the rollout's grid that a sample is trained on; None is int(0.99 rollout.steps)."""
    micro_batch_size: PositiveInt = 8
    """Most (sample, timestep) pairs in one forward and backward pass."""
    max_staleness: NonNegativeInt = 0
    """Epochs whose rollouts are made ahead while an earlier one's rewards are on their way; 0 is strictly on-policy.
    None is made across a checkpoint, so that a resumed run is the same run."""
    adv_clip: PositiveFloat = 5.0
    """Advantages, in standard deviations, at which optimality reaches 0 and 1."""
    old_decay_type: Literal[0, 1, 2] = 1
    """How the old policy follows: 0 at once, 1 min(0.001 s, 0.5), 2 late and slow; s = optimizer steps (editing: 1)."""
    ema_decay: float = Field(default=0.9, ge=0, lt=1)
    """Highest decay of the EMA weights."""

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
    """Where metrics go beside metrics.jsonl and TensorBoard; they read their own environment (WANDB_MODE, ...)."""
    tracker_project: str = "edit-r1"
    """Project that trackers put the run in."""
    report: ReportConfig = Field(default_factory=ReportConfig)

    @model_validator(mode="after")
    def _check_geometry(self) -> TrainConfig:
        if self.filter.quorum > self.group_size:
            raise ValueError(f"filter.quorum = {self.filter.quorum} must be at most group_size = {self.group_size}")
        if self.trained_timesteps is not None and self.trained_timesteps > self.rollout.steps:
            raise ValueError(
                f"trained_timesteps = {self.trained_timesteps} must be one of 1..{self.rollout.steps} (rollout.steps)"
            )
        recipe = self.reward.composite
        if self.advantage.per_component and not (isinstance(recipe, Combination) and recipe.rule == "mean"):
            raise ValueError("advantage.per_component needs reward.composite with `rule: mean` and its weights")
        if self.algorithm == "flow_grpo" and not (self.trained_timesteps or 1) < self.rollout.steps:
            raise ValueError(
                f"trained_timesteps = {self.trained_timesteps or 1} must be below rollout.steps = "
                f"{self.rollout.steps}: the last step is not stochastic and flow_grpo cannot train on it"
            )
        if self.algorithm == "flow_grpo" and self.max_staleness:
            raise ValueError(f"max_staleness = {self.max_staleness} must be 0: flow_grpo is on-policy")
        if self.model.quantization != "none" and (self.tuning == "full" or self.model.sharding == "fsdp"):
            raise ValueError(
                f"model.quantization = {self.model.quantization} goes with tuning = lora and model.sharding = none only"
            )
        samples = self.groups_per_epoch * self.group_size
        if self.optimizer_steps_per_epoch > samples:
            raise ValueError(
                f"optimizer_steps_per_epoch = {self.optimizer_steps_per_epoch} must be one of 1..{samples} "
                f"(groups_per_epoch x group_size)"
            )
        return self


def read_config(path: Path, overrides: Sequence[str]) -> TrainConfig:
    """A person's configuration with `dotted.key=value` overrides. Raises ConfigError."""
    path = packaged.find_path(path)
    if not path.is_file():
        raise ConfigError(f"configuration {path} does not exist")
    return load_config(TrainConfig, path, overrides)


def check_world_size(config: TrainConfig, num_processes: int) -> None:
    """Every process needs a batch of groups; shares may be uneven. Raises ConfigError with the legal values."""
    num_units = math.ceil(config.groups_per_epoch / config.rollout.batch_groups)
    if num_processes > num_units:
        raise ConfigError(
            f"{num_processes} processes for groups_per_epoch = {config.groups_per_epoch} in batches of "
            f"rollout.batch_groups = {config.rollout.batch_groups}: legal are 1..{num_units} processes, any number of "
            f"them; lower batch_groups or raise groups_per_epoch for more"
        )
