"""Metrics on disk: one JSON line an epoch, and the same numbers to TensorBoard.

Names are `stage/name_unit`. NaN is written as null: strict JSON has no NaN.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

METRICS_NAME = "metrics.jsonl"


class MetricsLog:
    """RUN_DIR/metrics.jsonl and RUN_DIR/tensorboard; a context manager. Lines after `start_epoch` are cut off first."""

    def __init__(self, run_dir: Path, start_epoch: int) -> None:
        self._path = run_dir / METRICS_NAME
        kept = [line for line in read_metrics(run_dir) if line["epoch"] <= start_epoch]
        self._path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self._tensorboard = SummaryWriter(str(run_dir / "tensorboard"), purge_step=start_epoch + 1)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tensorboard.close()

    def write(self, epoch: int, metrics: Mapping[str, float | None]) -> None:
        """Append the metrics of an epoch (counted from 1; 0 is before training)."""
        clean = {name: _finite(value) for name, value in metrics.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"epoch": epoch, **clean}) + "\n")
        for name, value in clean.items():
            if value is not None:
                self._tensorboard.add_scalar(name, value, epoch)


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """All lines so far; a last line cut off by a crash is left out."""
    path = run_dir / METRICS_NAME
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    whole, _, _ = text.rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
