"""True classifier-free guidance of a run: what rollouts and evaluations use, and whether the model has it.

Imports a family's class, and with it torch, only where guidance is configured.
"""

from __future__ import annotations

from edit_r1.shared.errors import ConfigError
from edit_r1.trainer.config import TrainConfig
from edit_r1.trainer.models import family_class
from edit_r1.trainer.models.sampling import TrueCfg


def check_true_cfg(config: TrainConfig) -> None:
    """Raises ConfigError when guidance is configured for a model without a negative branch. Loads no weights."""
    scales = {"rollout.true_cfg": config.rollout.true_cfg, "evaluation.true_cfg": config.evaluation_true_cfg}
    configured = [f"{key} = {scale:g}" for key, scale in scales.items() if scale is not None]
    if not configured:
        return
    model = config.model
    if reason := family_class(model.family).why_no_negative_branch(model.location):
        raise ConfigError(f"{configured[0]} must be null with model.family = {model.family}: {reason}")


def rollout_true_cfg(config: TrainConfig) -> TrueCfg | None:
    """Guidance in rollouts; None without it."""
    return _true_cfg(config, config.rollout.true_cfg, config.rollout.negative_prompt)


def evaluation_true_cfg(config: TrainConfig) -> TrueCfg | None:
    """Guidance in evaluations and in `edit-r1 edit`; None without it."""
    own = config.evaluation.negative_prompt
    return _true_cfg(config, config.evaluation_true_cfg, config.rollout.negative_prompt if own is None else own)


def _true_cfg(config: TrainConfig, scale: float | None, negative_prompt: str | None) -> TrueCfg | None:
    if scale is None:
        return None
    branch = family_class(config.model.family).negative_branch
    if branch is None:
        raise ConfigError(f"model.family = {config.model.family} has no negative branch")
    return TrueCfg(scale, branch.prompt if negative_prompt is None else negative_prompt)
