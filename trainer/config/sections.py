"""The sections of a configuration but for `reward`, in the order of a training step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from edit_r1.shared.config import ConfigModel
from edit_r1.trainer.machine import bundled_files
from edit_r1.trainer.models import FAMILIES
from edit_r1.trainer.tasks.columns import Columns

Scale = Annotated[float, Field(gt=1, allow_inf_nan=False)]
"""Scale of true classifier-free guidance."""


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
