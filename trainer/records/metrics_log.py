"""Metrics on disk: one JSON line per epoch; the same numbers also go to TensorBoard and the configured trackers.

Names are `stage/name_unit`. NaN is written as null: strict JSON has no NaN.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from accelerate.tracking import TrackioTracker, WandBTracker
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from edit_r1.shared.files import write_json
from edit_r1.shared.jsonl import append_rows, read_rows, write_rows

METRICS_NAME, TRACKER_NAME = "metrics.jsonl", "tracker.json"
TrackerName = Literal["wandb", "trackio"]


class MetricsLog:
    """RUN_DIR/metrics.jsonl, RUN_DIR/tensorboard and trackers; a context manager.

    Lines after `start_epoch` are removed first. Trackers already received them and do not receive them again, since a
    resumed run computes the same numbers.
    """

    def __init__(
        self,
        run_dir: Path,
        start_epoch: int,
        *,
        trackers: Sequence[TrackerName] = (),
        project: str = "edit-r1",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """config: the run configuration passed to trackers at the start."""
        self._path = run_dir / METRICS_NAME
        lines = read_metrics(run_dir)
        self.lines = [line for line in lines if line["epoch"] <= start_epoch]
        self._told = {_key(line) for line in lines}
        write_rows(self._path, self.lines)
        self._tensorboard = SummaryWriter(str(run_dir / "tensorboard"), purge_step=start_epoch + 1)
        self._trackers = [_start(name, project, run_dir, config or {}) for name in trackers]

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tensorboard.close()
        for tracker in self._trackers:
            tracker.finish()

    def write(self, epoch: int, metrics: Mapping[str, float | None]) -> None:
        """Append the metrics of an epoch (counted from 1; 0 is before training)."""
        clean = {name: _finite(value) for name, value in metrics.items()}
        line = {"epoch": epoch, **clean}
        append_rows(self._path, [line])
        self.lines.append(line)
        present = {name: value for name, value in clean.items() if value is not None}
        for name, value in present.items():
            self._tensorboard.add_scalar(name, value, epoch)
        if _key(line) not in self._told:
            for tracker in self._trackers:
                tracker.log(present, step=epoch)

    def show(self, epoch: int, name: str, picture: Image.Image) -> None:
        """Log an image to TensorBoard and to trackers that accept images."""
        pixels = np.asarray(picture)
        self._tensorboard.add_image(name, pixels, epoch, dataformats="HWC")
        for tracker in self._trackers:
            if isinstance(tracker, WandBTracker):
                tracker.log_images({name: [pixels]}, step=epoch)


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """All lines so far; a last line truncated by a crash is skipped."""
    path = run_dir / METRICS_NAME
    return [line for _, line in read_rows(path, growing=True)] if path.exists() else []


def _start(name: TrackerName, project: str, run_dir: Path, config: Mapping[str, Any]) -> WandBTracker | TrackioTracker:
    """Start a tracker, continuing its earlier run if there is one; the run id is in RUN_DIR/tracker.json."""
    path = run_dir / TRACKER_NAME
    if not path.exists():
        write_json(path, {"id": uuid.uuid4().hex[:12]})
    run_id = json.loads(path.read_text(encoding="utf-8"))["id"]
    if name == "wandb":
        tracker = WandBTracker(project, id=run_id, name=run_dir.name, dir=str(run_dir), resume="allow")
    else:
        tracker = TrackioTracker(project, name=f"{run_dir.name}-{run_id}", resume="allow")
    tracker.start()
    tracker.store_init_configuration(dict(config))
    return tracker


def _key(line: Mapping[str, Any]) -> tuple[Any, ...]:
    """Key of a line: an epoch has one line for training and one for evaluation."""
    return line["epoch"], any(name.startswith("eval/") for name in line)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
