"""The parts of a run, built from its configuration: the one place where configuration turns into objects and numbers.

Enters: a TrainConfig and the checked inputs. Leaves: a Run, whose parts know nothing of the configuration.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from shared.config import dump_config
from shared.files import write_text
from shared.schemas import Combination
from trainer import checkpoint, records, sizes
from trainer.checkpoint import RunState
from trainer.config import CHECKPOINTS_NAME, CONFIG_NAME, TrainConfig, check_world_size
from trainer.data import GroupSampler, SamplerState
from trainer.filtering import FilterThresholds
from trainer.full_policy import FullPolicy
from trainer.lora_policy import LoraPolicy
from trainer.losses import GrpoLoss, Loss, NftLoss
from trainer.metrics_log import MetricsLog
from trainer.models import family_class
from trainer.models.base import LoadOptions, ModelFamily
from trainer.monitors import AlarmLimits
from trainer.offloading import Offloaded
from trainer.policy import Policy
from trainer.preflight import Inputs
from trainer.processes import Processes
from trainer.progress import Display
from trainer.resuming import find_start, flatten
from trainer.rewarding import RewardQueue
from trainer.schedule import num_trained_timesteps
from trainer.seeding import derived_seed
from trainer.sharding import Sharder
from trainer.sizes import ChooseSize

_COMPANY_SECONDS = 1800.0
"""By how much processes may be apart for other reasons than the reward service: a slow disk, a long compilation."""


@dataclass
class Run:
    """Everything an epoch needs. The last two fields count on."""

    config: TrainConfig
    inputs: Inputs
    processes: Processes
    display: Display
    family: ModelFamily
    policy: Policy
    optimizer: torch.optim.AdamW
    sampler: GroupSampler
    sampler_state: SamplerState
    """Where the sampler stood after the last finished epoch; it may be ahead of it."""
    queue: RewardQueue
    log: MetricsLog | None
    """None off the main process."""
    choose_size: ChooseSize
    """At which size a picture is trained."""
    filter_thresholds: FilterThresholds
    loss: Loss
    alarm_limits: AlarmLimits
    component_weights: Mapping[str, float]
    """Of sub-scores that become advantages one by one; empty: the reward is one."""
    evaluated: set[int]
    """Epochs whose evaluation is on record."""
    started_at: float
    """time.monotonic() at which a run without interruptions would have started."""
    epoch: int = 0
    """Epochs finished."""
    optimizer_steps: int = 0
    """Optimizer steps taken so far."""

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, over all resumptions."""
        return time.monotonic() - self.started_at


@contextmanager
def assemble(config: TrainConfig, inputs: Inputs, display: Display) -> Iterator[Run]:
    """Build the run, fresh or from a checkpoint; everything is closed when the block ends."""
    started_at = time.monotonic()
    if config.cpu_threads is not None:
        torch.set_num_threads(config.cpu_threads)
    with ExitStack() as stack:
        processes = Processes(config.reward.deadline_seconds + _COMPANY_SECONDS)
        stack.callback(processes.close)
        check_world_size(config, processes.count)
        torch.manual_seed(derived_seed(config.seed, "process", processes.rank))
        display.say(processes.describe())
        start = find_start(config, display.say)
        evaluated = records.evaluated_epochs(config.run_dir) if start is not None else set()
        processes.wait()  # nobody writes before everybody has looked
        family = load_family(config, processes.device, num_processes=processes.count)
        if processes.is_main:
            texts = {task.instruction for task in (*inputs.train, *inputs.held_out)}
            if warning := cut_instructions(family, texts):
                display.say(warning)
        policy = build_policy(config, family, _sharder(config, family, processes))
        if config.model.compile != "none":
            transformer: Any = family.transformer  # diffusers ships no types
            transformer.compile_repeated_blocks(backend=config.model.compile)
        sampler = GroupSampler(inputs.train, config.seed)
        run = Run(
            config=config,
            inputs=inputs,
            processes=processes,
            display=display,
            family=family,
            policy=policy,
            optimizer=build_optimizer(config, policy),
            sampler=sampler,
            sampler_state=sampler.state,
            queue=stack.enter_context(build_queue(config, display.say)),
            log=None,
            choose_size=choose_size(config, family),
            filter_thresholds=_thresholds(config),
            loss=build_loss(config, family, policy),
            alarm_limits=_alarm_limits(config),
            component_weights=_component_weights(config),
            evaluated=evaluated,
            started_at=started_at,
        )
        if start is not None:
            _resume(run, start)
        if processes.is_main:
            run.log = stack.enter_context(_open_run_dir(config, inputs, run.epoch if start else -1))
        yield run


def save_checkpoint(run: Run) -> None:
    """Write step-N for the epochs finished so far; every process has to call this."""
    states = run.processes.gather([(run.processes.rank, torch.get_rng_state())])
    checkpoint.save(
        run.config.run_dir / CHECKPOINTS_NAME,
        run.policy,
        run.optimizer,
        RunState(
            epoch=run.epoch,
            optimizer_steps=run.optimizer_steps,
            sampler=run.sampler_state,
            num_processes=run.processes.count,
            seconds=run.seconds,
        ),
        random_states=checkpoint.RandomStates(dict(states)),
        config_yaml=dump_config(run.config),
        keep=run.config.checkpoint.keep,
        write=run.processes.is_main,
    )
    run.processes.wait()


def _resume(run: Run, start: Path) -> None:
    """Go on from a checkpoint."""
    state = checkpoint.restore(start, run.policy, run.optimizer, run.processes.rank)
    run.epoch, run.optimizer_steps = state.epoch, state.optimizer_steps
    run.sampler.restore(state.sampler)
    run.sampler_state = state.sampler
    run.started_at -= state.seconds
    run.evaluated = {epoch for epoch in run.evaluated if epoch <= state.epoch}
    run.display.say(f"resuming from {start} after {run.epoch} epochs")
    if state.num_processes != run.processes.count:
        run.display.say(
            f"resuming with {run.processes.count} processes, it was {state.num_processes}: the same groups, noise "
            f"and loss, dealt out anew; sums over processes may differ in their last bits"
        )


def _open_run_dir(config: TrainConfig, inputs: Inputs, start_epoch: int) -> MetricsLog:
    """Write the resolved configuration, cut off what a resumed run will write again, open the log."""
    config.run_dir.mkdir(parents=True, exist_ok=True)
    records.forget_after(config.run_dir, start_epoch)
    write_text(config.run_dir / CONFIG_NAME, dump_config(config))
    records.save_versions(config.run_dir, inputs.service)
    return MetricsLog(
        config.run_dir,
        start_epoch,
        trackers=config.trackers,
        project=config.tracker_project,
        config=flatten(config.model_dump(mode="json")),
    )


def load_family(
    config: TrainConfig, device: torch.device, *, num_processes: int = 1, without_weights: bool = False
) -> ModelFamily:
    """The configuration's model, on a device; in a run of several processes perhaps still to be sharded."""
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
    if options.offload_text_encoders:
        family.offloaded = Offloaded(family.text_encoders, device)
    return family


def _sharder(config: TrainConfig, family: ModelFamily, processes: Processes) -> Sharder | None:
    """What spreads weights over the processes; spreads the text encoders. None where every process holds the whole."""
    if config.model.sharding == "none" or processes.count == 1:
        return None
    sharder = Sharder(processes.device, processes.count, family.dtype)
    if family.offloaded is None:
        for module in family.text_encoders:
            sharder(module)
    return sharder


def cut_instructions(family: ModelFamily, instructions: Collection[str]) -> str | None:
    """A warning of instructions that the text encoder will not see to their end; None when there are none."""
    cut = {text: num_tokens for text in instructions if (num_tokens := family.num_cut_tokens(text))}
    if not cut:
        return None
    worst = max(cut, key=lambda text: (cut[text], text))
    return (
        f"WARNING: {len(cut)} of {len(instructions)} instructions are longer than the text encoder reads; the "
        f"longest loses {cut[worst]} tokens: {worst[:80]!r}"
    )


def choose_size(config: TrainConfig, family: ModelFamily) -> ChooseSize:
    """At which size each picture is edited. Raises ConfigError for a size that the family cannot edit."""
    model = config.model
    if model.aspect == "buckets":
        return sizes.buckets(model.width * model.height, family.size_multiple, model.max_aspect)
    family.check_size((model.width, model.height))
    return sizes.one_size((model.width, model.height))


def build_policy(config: TrainConfig, family: ModelFamily, sharder: Sharder | None) -> Policy:
    """What is trained, with its copies."""
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
    """What asks for rewards; `tell` hears what it waits for."""
    reward = config.reward
    return RewardQueue(
        reward.url,
        method=reward.method,
        num_passes=reward.num_passes,
        composite=reward.composite,
        codec=reward.codec,
        api_key=reward.api_key,
        timeout_seconds=reward.timeout_seconds,
        deadline_seconds=reward.deadline_seconds,
        max_in_flight=reward.max_in_flight,
        tell=tell,
    )


def _component_weights(config: TrainConfig) -> Mapping[str, float]:
    recipe = config.reward.composite
    return recipe.weights if config.advantage.per_component and isinstance(recipe, Combination) else {}


def _thresholds(config: TrainConfig) -> FilterThresholds:
    settings = config.filter
    return FilterThresholds(
        tau_mean=settings.tau_mean,
        tau_spread=settings.tau_spread,
        spread=settings.spread,
        min_range=settings.min_range,
        quorum=settings.quorum,
    )


def _alarm_limits(config: TrainConfig) -> AlarmLimits:
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
    """The algorithm."""
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
