"""Evaluation metrics by import path: `package.module:function`, called with (task, edited image), returns a float.

Does not import torch, so that a wrong path is found before any model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from PIL import Image

from edit_r1.shared.errors import ConfigError, DataError
from edit_r1.trainer.types import EditTask

Metric = Callable[[EditTask, Image.Image], float]


def load_metrics(paths: Mapping[str, str]) -> dict[str, Metric]:
    """Import every metric. Raises ConfigError for a path that does not resolve."""
    return {name: _load(name, path) for name, path in paths.items()}


def measure(metrics: Mapping[str, Metric], task: EditTask, edited: Image.Image) -> dict[str, float]:
    """Compute every metric of one edit. Raises DataError naming metric and task when one fails."""
    return {name: _measure(name, metric, task, edited) for name, metric in metrics.items()}


def _measure(name: str, metric: Metric, task: EditTask, edited: Image.Image) -> float:
    try:
        return float(metric(task, edited))
    except Exception as error:
        # Metrics are third-party code: whatever one raises, the user needs to know for which task.
        raise DataError(
            f"evaluation metric {name!r} failed on the task {task.instruction!r} of {task.sources[0].name}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _load(name: str, path: str) -> Metric:
    module, colon, attribute = path.partition(":")
    if not colon:
        raise ConfigError(f"evaluation.metrics.{name} = {path!r} must be package.module:function")
    try:
        metric: Metric = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"evaluation.metrics.{name} = {path!r}: {error}") from error
    return metric
