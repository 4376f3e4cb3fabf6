"""How many processes a configuration can run on."""

from __future__ import annotations

import math

from edit_r1.shared.errors import ConfigError
from edit_r1.trainer.config.train_config import TrainConfig
from edit_r1.trainer.mathematics.dealing import num_parts


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
