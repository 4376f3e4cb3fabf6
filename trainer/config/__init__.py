"""The trainer's configuration: one frozen model, every field documented, defaults from Table 5 of the paper.

YAML and dotted overrides are read into a TrainConfig. This package does not import torch.
Paths are relative to the working directory; a missing `worlds/...` path falls back to the installed package.

rewards       the section `reward`: services and methods
sections      the other sections
train_config  the whole, and what its sections must agree on
world_size    how many processes it can run on
"""

from edit_r1.trainer.config.rewards import RewardConfig
from edit_r1.trainer.config.sections import DataConfig, ModelConfig, MonitorConfig
from edit_r1.trainer.config.train_config import (
    CHECKPOINTS_NAME,
    CONFIG_NAME,
    TrainConfig,
    read_config,
    with_current_values,
)
from edit_r1.trainer.config.world_size import check_world_size, group_parts

__all__ = [
    "CHECKPOINTS_NAME",
    "CONFIG_NAME",
    "DataConfig",
    "ModelConfig",
    "MonitorConfig",
    "RewardConfig",
    "TrainConfig",
    "check_world_size",
    "group_parts",
    "read_config",
    "with_current_values",
]
