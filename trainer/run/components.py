"""Builds the parts of a run from a TrainConfig. The parts themselves do not depend on the configuration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from edit_r1.shared.schemas import Combination
from edit_r1.trainer.config import TrainConfig
from edit_r1.trainer.machine.offloading import Offloaded
from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.machine.seeding import derived_seed
from edit_r1.trainer.machine.sharding import Sharder
from edit_r1.trainer.mathematics import sizes
from edit_r1.trainer.mathematics.alarms import AlarmLimits
from edit_r1.trainer.mathematics.filtering import FilterThresholds
from edit_r1.trainer.mathematics.schedule import num_trained_timesteps
from edit_r1.trainer.mathematics.sizes import ChooseSize
from edit_r1.trainer.models import family_class
from edit_r1.trainer.models.base import LoadOptions, ModelFamily
from edit_r1.trainer.policy.base import Policy
from edit_r1.trainer.policy.full import FullPolicy
from edit_r1.trainer.policy.lora import LoraPolicy
from edit_r1.trainer.rewards.reward_queue import RewardQueue
from edit_r1.trainer.rewards.terms import terms_of
from edit_r1.trainer.run.true_cfg import check_true_cfg
from edit_r1.trainer.update.losses import GrpoLoss, Loss, NftLoss


def load_family(
    config: TrainConfig, device: torch.device, *, num_processes: int = 1, without_weights: bool = False
) -> ModelFamily:
    """Load the configured model on a device; in a multi-process run it may still have to be sharded."""
    check_true_cfg(config)
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    model = config.model
    options = LoadOptions(
        guidance=config.rollout.guidance,
        device=device,
        precision=model.precision,
        max_text_tokens=model.max_text_tokens,
        gradient_checkpointing=model.gradient_checkpointing,
        trains_all=config.tuning == "full",
        will_be_sharded=model.sharding == "fsdp" and num_processes > 1,
        offload_text_encoders=model.text_encoders == "offload",
        quantization=model.quantization,
        without_weights=without_weights,
    )
    family = family_class(model.family).load(model.location, options)
    family.vae_pixels, family.unread = model.vae_pixels, options.unread
    if options.offload_text_encoders:
        family.offloaded = Offloaded(family.text_encoders, device)
    return family


def build_sharder(config: TrainConfig, family: ModelFamily, processes: Processes) -> Sharder | None:
    """Create the sharder and shard the text encoders; None when every process holds the whole model."""
    if config.model.sharding == "none" or processes.count == 1:
        return None
    sharder = Sharder(processes.device, processes.count, family.dtype, family.unread)
    if family.offloaded is None:
        for module in family.text_encoders:
            sharder(module)
    return sharder


def cut_instructions(family: ModelFamily, instructions: Collection[str]) -> str | None:
    """A warning about instructions that the text encoder will truncate; None when there are none."""
    cut = {text: num_tokens for text in instructions if (num_tokens := family.num_cut_tokens(text))}
    if not cut:
        return None
    worst = max(cut, key=lambda text: (cut[text], text))
    return (
        f"WARNING: {len(cut)} of {len(instructions)} instructions are too long for the text encoder; the longest "
        f"loses {cut[worst]} tokens: {worst[:80]!r}"
    )


def choose_size(config: TrainConfig, family: ModelFamily) -> ChooseSize:
    """The sizes that images are trained at. Raises ConfigError for a size that the family cannot edit."""
    model = config.model
    if model.aspect == "buckets":
        return sizes.buckets(model.width * model.height, family.size_multiple, model.max_aspect)
    family.check_size((model.width, model.height))
    return sizes.one_size((model.width, model.height), crops=model.aspect == "crop")


def whole_image_size(config: TrainConfig, family: ModelFamily) -> ChooseSize:
    """The sizes at which a trained editor edits: all of an image, at the nearest shape unless `aspect` is stretch.

    Raises ConfigError for a size that the family cannot edit.
    """
    model = config.model
    if model.aspect == "stretch":
        return choose_size(config, family)
    family.check_size((model.width, model.height))
    shapes = sizes.bucket_sizes(model.width * model.height, family.size_multiple, model.max_aspect)
    return ChooseSize(((model.width, model.height), *shapes), crops=False)


def build_policy(config: TrainConfig, family: ModelFamily, sharder: Sharder | None) -> Policy:
    """The trained policy with its copies."""
    if config.tuning == "full":
        return FullPolicy(family.transformer, compute_dtype=family.dtype, sharder=sharder)
    return LoraPolicy(
        family.transformer,
        rank=config.lora.rank,
        alpha=config.lora.alpha,
        targets=config.lora.targets or family.lora_targets,
        seed=derived_seed(config.seed, "lora"),
        sharder=sharder,
        merges=config.model.quantization == "none",
    )


def build_optimizer(config: TrainConfig, policy: Policy) -> torch.optim.AdamW:
    """AdamW over the trained parameters."""
    settings = config.optimizer
    return torch.optim.AdamW(
        policy.parameters(),
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        eps=settings.eps,
    )


def build_queue(config: TrainConfig, tell: Callable[[str], None]) -> RewardQueue:
    """The queue that requests rewards; `tell` is called with progress messages during a long wait."""
    reward = config.reward
    return RewardQueue(
        terms_of(reward),
        codec=reward.codec,
        timeout_seconds=reward.timeout_seconds,
        deadline_seconds=reward.deadline_seconds,
        max_in_flight=reward.max_in_flight,
        tell=tell,
    )


def component_weights(config: TrainConfig) -> Mapping[str, float]:
    """Weights of separately normalised rewards in the advantage: of `reward.terms`, or of a composite's components.

    Empty when the reward is a single number.
    """
    if config.reward.terms is not None:
        return {term.name: term.weight for term in config.reward.terms}
    recipe = config.reward.composite
    return recipe.weights if config.advantage.per_component and isinstance(recipe, Combination) else {}


def filter_thresholds(config: TrainConfig) -> FilterThresholds:
    """Thresholds of the group filter."""
    settings = config.filter
    return FilterThresholds(
        tau_mean=settings.tau_mean,
        tau_spread=settings.tau_spread,
        spread=settings.spread,
        min_range=settings.min_range,
        quorum=settings.quorum,
    )


def alarm_limits(config: TrainConfig) -> AlarmLimits:
    """Limits of the reward-hacking alarms."""
    settings = config.monitor
    return AlarmLimits(
        window=settings.window,
        min_group_std=settings.min_group_std,
        min_score_mass=settings.min_score_mass,
        max_unedited_growth=settings.max_unedited_growth,
        max_kl_to_base=settings.max_kl_to_base,
        max_second_gap=settings.max_second_gap,
        max_missing_fraction=settings.max_missing_fraction,
    )


def build_loss(config: TrainConfig, family: ModelFamily, policy: Policy) -> Loss:
    """The loss of the configured algorithm."""
    num_timesteps = num_trained_timesteps(config.rollout.steps, config.trained_timesteps)
    if config.algorithm == "flow_grpo":
        return GrpoLoss(
            family,
            policy,
            num_timesteps=num_timesteps,
            noise_level=config.grpo.noise_level,
            clip_range=config.grpo.clip_range,
            kl_weight=config.grpo.kl_weight,
            adv_clip=config.adv_clip,
            mode=config.advantage.mode,
        )
    return NftLoss(
        family,
        policy,
        num_timesteps=num_timesteps,
        nft_beta=config.nft.beta,
        kl_weight=config.nft.kl_weight,
        weighting=config.nft.weighting,
        adv_clip=config.adv_clip,
        mode=config.advantage.mode,
        seed=config.seed,
    )
