"""The whole configuration of a run, and what its sections must agree on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from edit_r1.shared.config import ConfigModel, load_config
from edit_r1.shared.errors import ConfigError
from edit_r1.shared.schemas import Combination
from edit_r1.trainer.config.rewards import RewardConfig
from edit_r1.trainer.config.sections import (
    AdvantageConfig,
    CheckpointConfig,
    DataConfig,
    EvaluationConfig,
    FilterConfig,
    GrpoConfig,
    LoraConfig,
    ModelConfig,
    MonitorConfig,
    NftConfig,
    OptimizerConfig,
    ReportConfig,
    RolloutConfig,
)
from edit_r1.trainer.machine import bundled_files

CONFIG_NAME = "config.yaml"
"""File name of the resolved configuration, in the run directory and in each checkpoint."""
CHECKPOINTS_NAME = "checkpoints"
"""Subdirectory of the run directory that holds the checkpoints."""


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
