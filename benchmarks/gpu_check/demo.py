"""Step `demo`: the first epochs of the tiny demo in float32, on the GPU and on the CPU at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from edit_r1.shared.jsonl import read_rows
from edit_r1.trainer.records.metrics_log import METRICS_NAME
from edit_r1.worlds.shapes.demo import HERE, reward_service

_TINY = ("groups_per_epoch=2", "group_size=4", "epochs=2")
_REAL = ("epochs=5",)
_METRICS = ("nft/loss", "reward/mean", "optimizer/grad_norm")


def first_epochs(tiny: bool, _tflops: float) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Loss, reward and gradient by epoch: at first equal up to rounding, then drifting apart. One judge for both."""
    devices = ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",)
    with tempfile.TemporaryDirectory() as folder:
        runs = {device: Path(folder) / device for device in devices}
        with reward_service(Path(folder) / "service.log", HERE / "judge") as url:
            overrides = (f"reward.url={url}", *(_TINY if tiny else _REAL))
            trainers = {device: _start(device, run, overrides) for device, run in runs.items()}
            status = {device: trainer.wait() for device, trainer in trainers.items()}
        for device, run in runs.items():
            if status[device]:
                raise RuntimeError(f"training on {device} ended with status {status[device]}")
            rows = [row for _, row in read_rows(run / METRICS_NAME)]
            yield device, {name: [row[name] for row in rows if name in row] for name in _METRICS}


def _start(device: str, run: Path, overrides: Sequence[str]) -> subprocess.Popen[bytes]:
    """The demo's training, without evaluations."""
    arguments = (f"run_dir={run}", "data.held_out=null", "model.precision=float32", *overrides)
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    environment = {"OMP_NUM_THREADS": "1", **os.environ, **hidden}
    command = [sys.executable, "-m", "edit_r1", "train", str(HERE / "nft.yaml"), *arguments]
    return subprocess.Popen(command, env=environment)  # noqa: S603 - our own command
