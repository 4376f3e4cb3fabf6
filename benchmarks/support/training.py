"""A training step of FLUX.1-Kontext with random weights: rollout and update of a few groups, without a judge.

Measurements of time and memory do not depend on the weights' values, so none are read: the model is made without
memory in its own dtype, and its weights are drawn where they stay.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from benchmarks.support.real_sizes import write_kontext
from benchmarks.support.stages import Stages
from edit_r1.shared.config import load_config
from edit_r1.trainer.config import TrainConfig
from edit_r1.trainer.doctor.estimates import ModelShape, Plan, epoch_flops, memory
from edit_r1.trainer.doctor.planning import Gpus, plan_of, shape_of
from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.mathematics.sizes import ImageSize, one_size
from edit_r1.trainer.models.base import ModelFamily
from edit_r1.trainer.policy.base import Policy
from edit_r1.trainer.rollout.rollout import roll_out
from edit_r1.trainer.rollout.units import units_of
from edit_r1.trainer.run.components import build_loss, build_optimizer, build_policy, load_family
from edit_r1.trainer.run.true_cfg import rollout_true_cfg
from edit_r1.trainer.tasks.task_list import read_task_list
from edit_r1.trainer.types import RolloutGroup, TaskGroup
from edit_r1.trainer.update.batching import assign_steps, build_batch
from edit_r1.trainer.update.losses import Loss
from edit_r1.trainer.update.update import update
from edit_r1.worlds.shapes.demo import HERE

EXAMPLE = Path("examples/flux_kontext_nft.yaml")
TINY_EDITOR = HERE / "editor"


def kontext_config(
    folder: Path, *, model: Path | None, groups: int, side: int, overrides: Sequence[str]
) -> TrainConfig:
    """The example's configuration on the demo's tasks. model: by default FLUX.1-Kontext's own sizes."""
    return load_config(
        TrainConfig,
        EXAMPLE,
        [
            f"model.path={model or write_kontext(folder / 'kontext')}",
            f"run_dir={folder}/run",
            f"data.train={HERE}/data/train.jsonl",
            f"model.width={side}",
            f"model.height={side}",
            f"groups_per_epoch={groups}",
            *overrides,
        ],
    )


@dataclass(frozen=True)
class Training:
    """A model with random weights and everything that a step needs."""

    config: TrainConfig
    processes: Processes
    family: ModelFamily
    policy: Policy
    loss: Loss
    optimizer: torch.optim.AdamW
    stages: Stages
    """Measures `rollout` (without decoding), `decode` and `update`."""

    @classmethod
    def of(cls, config: TrainConfig) -> Training:
        """Build everything on the GPU if there is one."""
        processes = Processes(600)
        family = with_random_weights(config, processes.device)
        policy = build_policy(config, family, None)
        loss, optimizer = build_loss(config, family, policy), build_optimizer(config, policy)
        return cls(config, processes, family, policy, loss, optimizer, Stages(processes.device))

    @property
    def size(self) -> ImageSize:
        """Width and height of the edits."""
        return self.config.model.width, self.config.model.height

    def roll_out(self, group_size: int | None = None) -> list[RolloutGroup]:
        """Generate and decode the candidates. group_size: default the configuration's."""
        config, family = self.config, self.family
        tasks = read_task_list(config.data.train)[: config.groups_per_epoch]
        decode = self.stages.measured("decode", family.decode)
        with self.stages.measure("rollout"), patch.object(family, "decode", decode):
            return list(
                roll_out(
                    family,
                    self.policy,
                    units_of(
                        [TaskGroup(0, index, task) for index, task in enumerate(tasks)],
                        group_size=group_size or config.group_size,
                        batch_groups=config.rollout.batch_groups,
                        parts=1,
                    ),
                    num_steps=config.rollout.steps,
                    noise_level=None,
                    choose_size=one_size(self.size),
                    seed=0,
                    processes=self.processes,
                    true_cfg=rollout_true_cfg(config),
                )
            )

    def update(self, rollouts: Sequence[RolloutGroup]) -> None:
        """One optimizer step on all candidates, with random rewards."""
        config = self.config
        worth = torch.rand(len(rollouts), len(rollouts[0].x0), dtype=torch.float64)
        steps = assign_steps(worth, torch.ones(len(rollouts), dtype=torch.bool), 1, torch.Generator().manual_seed(0))
        batch = build_batch(rollouts, worth, steps, num_optimizer_steps=1)
        with self.stages.measure("update"):
            update(
                self.policy,
                self.optimizer,
                batch,
                self.loss,
                micro_batch_size=config.micro_batch_size,
                max_grad_norm=1.0,
                processes=self.processes,
                on_step=lambda: None,
            )

    def useful_flops(self) -> Mapping[str, float]:
        """Operations that the method requires (no recomputation), `rollout` and `update`, for all groups."""
        shape, plan = self._sizes()
        return epoch_flops(shape, dataclasses.replace(plan, checkpoints=False))

    def estimated_bytes(self) -> float:
        """Peak memory as `edit-r1 doctor` estimates it."""
        return sum(memory(*self._sizes()).values())

    def _sizes(self) -> tuple[ModelShape, Plan]:
        shape = shape_of(self.family, self.config)
        # The loaded model contains three adapters in addition to its own weights.
        shape = dataclasses.replace(shape, transformer=shape.transformer - 3 * shape.adapter)
        return shape, plan_of(self.family, self.config, Gpus(1, 80.0, 400.0), num_sources=1)


def with_random_weights(config: TrainConfig, device: torch.device) -> ModelFamily:
    """The configuration's model with random weights: at no time is more memory in use than they take."""
    family = load_family(config, device, without_weights=True)
    for module in (family.transformer, family.vae, *family.text_encoders):
        # The dtype first, while nothing takes memory yet.
        dtype = torch.float32 if module is family.vae else family.dtype
        module.to(dtype).to_empty(device=device).requires_grad_(False).eval()
        for tensor in module.parameters():
            nn.init.normal_(tensor, std=0.02)
        for name, buffer in module.named_buffers():
            if name.endswith("position_ids"):  # not parameters: to_empty left them undefined
                buffer.copy_(torch.arange(buffer.shape[-1], device=device).expand_as(buffer))
    if config.model.gradient_checkpointing:
        transformer: Any = family.transformer  # diffusers ships no types
        transformer.enable_gradient_checkpointing()
    return family
