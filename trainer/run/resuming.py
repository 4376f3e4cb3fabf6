"""Decides where a run starts: fresh, or from a checkpoint that matches its configuration. Does not import torch.

Takes the configuration with its run directory; returns a checkpoint path or None, or raises one clear error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from edit_r1.shared.errors import CheckpointError, ConfigError
from edit_r1.trainer.config import (
    CHECKPOINTS_NAME,
    CONFIG_NAME,
    DataConfig,
    ModelConfig,
    TrainConfig,
    with_current_values,
)

_FIXED = (
    "seed",
    "data.train",
    "data.columns",
    "model.family",
    "model.width",
    "model.height",
    "model.aspect",
    "model.max_aspect",
    "tuning",
    "lora",
    "groups_per_epoch",
)
"""Keys that a checkpoint's contents depend on; a run cannot be resumed with different values."""
_OF_NO_CONSEQUENCE = (
    "data.root",
    "run_dir",
    "resume",
    "epochs",
    "reward.url",
    "reward.codec",
    "checkpoint",
    "evaluation.every",
    "evaluation.batch_size",
    "evaluation.metrics",
    "evaluation.pictures",
    "report",
    "monitor",
    "tracker_project",
    "trackers",
    "cpu_threads",
)
"""Keys whose changes are not reported."""


@cache
def _defaults() -> dict[str, Any]:
    """The defaults of all keys, by dotted key."""
    blank = TrainConfig(run_dir=Path(), data=DataConfig(train=Path()), model=ModelConfig(path=""))
    return flatten(blank.model_dump(mode="json"))


def find_start(config: TrainConfig, tell: Callable[[str], None]) -> Path | None:
    """The checkpoint to resume from, None for a fresh start.

    Raises CheckpointError when the named checkpoint is missing, damaged, or from a run with different fixed keys, and
    ConfigError for `resume=none` in a directory that contains a run.
    """
    from edit_r1.trainer.policy.checkpoint import newest_whole  # noqa: PLC0415 - imports torch
    from edit_r1.trainer.policy.manifest import damage  # noqa: PLC0415

    if config.resume == "none":
        _check_unused(config.run_dir)
        return None
    if config.resume == "auto":
        start = newest_whole(config.run_dir / CHECKPOINTS_NAME, tell)
    else:
        start = Path(config.resume)
        if fault := damage(start):
            raise CheckpointError(f"resume = {start}: {fault}")
    if start is not None:
        _compare(start, config, tell)
    return start


def _check_unused(run_dir: Path) -> None:
    if (run_dir / "metrics.jsonl").exists():
        raise ConfigError(
            f"run_dir {run_dir} already contains a run: set resume=auto to continue it, or choose another run_dir"
        )


def _compare(checkpoint: Path, config: TrainConfig, tell: Callable[[str], None]) -> None:
    """Reject changes of fixed keys; report the others."""
    then = flatten(with_current_values(yaml.safe_load((checkpoint / CONFIG_NAME).read_text(encoding="utf-8"))))
    now = flatten(config.model_dump(mode="json"))
    # A key that did not exist yet had its current default; a key that no longer exists is ignored.
    then = _defaults() | then
    changed = [key for key in sorted(now) if then.get(key) != now[key]]
    fixed = [key for key in changed if _is_under(key, _FIXED)]
    if fixed:
        faults = ", ".join(f"{key} was {then.get(key)!r}, is {now.get(key)!r}" for key in fixed)
        raise CheckpointError(
            f"cannot resume from {checkpoint}: {faults}; set what it was, or choose another run_dir to start fresh"
        )
    for key in changed:
        if not _is_under(key, _OF_NO_CONSEQUENCE):
            tell(f"resuming with {key} = {now.get(key)!r} (was {then.get(key)!r})")


def _is_under(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration's values by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
