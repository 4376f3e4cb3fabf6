"""A whole training run small enough for a test: random editor, colour judge over HTTP, single-colour images.

run = TinyRun(folder);  with serving(ColorJudge()) as url: run.train(url, "epochs=2")
"""

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from edit_r1.trainer.machine.shard_files import read_shards, shard_files, stored_tensors
from edit_r1.trainer.policy.full import FullPolicy
from edit_r1.worlds.shapes.training.editor_model import MAX_TEXT_TOKENS
from tests.support.forked import Forked
from tests.support.tiny_editor import build_tiny_editor

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIG: dict[str, Any] = {
    "epochs": 2,
    "groups_per_epoch": 3,
    "group_size": 4,
    "trained_timesteps": 2,
    "optimizer_steps_per_epoch": 2,
    "micro_batch_size": 7,
    "cpu_threads": 1,
    "model": {"width": 32, "height": 32, "max_text_tokens": MAX_TEXT_TOKENS},
    "rollout": {"steps": 3, "batch_groups": 2},
    "optimizer": {"learning_rate": 3e-3},
    "lora": {"rank": 8, "alpha": 16},
    "evaluation": {
        "steps": 3,
        "batch_size": 3,
        "pictures": 2,
        "metrics": {"redness": "tests.support.tiny_run:redness"},
    },
    "checkpoint": {"every": 1, "keep": 10},
    "reward": {"deadline_seconds": 5, "wait_seconds": 5},
    "report": {"groups": 2},
}


class TinyRun:
    """The inputs of a run in a folder, and ways to start it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        (folder / "images").mkdir(parents=True)
        for name, num_tasks in (("train", 5), ("held_out", 4)):
            self._write_tasks(name, num_tasks)
        values = json.loads(json.dumps(CONFIG))
        values["model"]["path"] = str(build_tiny_editor(folder / "editor"))
        values["data"] = {name: str(folder / f"{name}.jsonl") for name in ("train", "held_out")}
        self.config.write_text(yaml.safe_dump(values))

    def train(self, url: str, run_dir: Path, *overrides: str) -> dict[str, Any]:
        """Train in this process; returns the summary."""
        from edit_r1.trainer.cli import train

        train(self.arguments(url, run_dir, *overrides))
        summary: dict[str, Any] = json.loads((run_dir / "summary.json").read_text())
        return summary

    def arguments(self, url: str, run_dir: Path, *overrides: str) -> list[str]:
        return [str(self.config), f"reward.url={url}", f"run_dir={run_dir}", *overrides]

    def _write_tasks(self, name: str, num_tasks: int) -> None:
        lines = []
        for index in range(num_tasks):
            image = f"images/{name}-{index}.png"
            shape = ((32, 32), (60, 28))[index % 2]
            Image.new("RGB", shape, (40 * index, 90, 200 - 30 * index)).save(self.folder / image)
            lines.append(json.dumps({"prompt": "make it red", "image": image, "task": ("adjust", "add")[index % 2]}))
        (self.folder / f"{name}.jsonl").write_text("\n".join(lines))


def redness(task: Any, edited: Image.Image) -> float:
    """An evaluation metric, to be found by its import path."""
    import numpy as np

    from tests.support import color_judge

    assert task.instruction == "make it red"
    return color_judge.redness(np.asarray(edited, np.float64))


def train_on(num_processes: int, arguments: list[str]) -> tuple[int, str]:
    """Train on several processes; returns (exit status, output)."""
    return Forked("train", *arguments, num_processes=num_processes).finish()


def train_on_two(arguments: list[str]) -> tuple[int, str]:
    """Train on two processes; returns (exit status, output)."""
    return train_on(2, arguments)


def weights(run_dir: Path, step: int, file: str) -> dict[str, Tensor]:
    """Tensors in a checkpoint's file, or in the shards that a sharded run writes instead."""
    path = run_dir / "checkpoints" / f"step-{step}" / file
    shards = shard_files(path.parent if path.name == FullPolicy.weights_name else path.with_suffix(""))
    if not shards:
        loaded: dict[str, Tensor] = load_file(path)
        return loaded
    joined = {name: torch.empty_like(one, device="cpu") for name, one in stored_tensors(shards).items()}
    read_shards(shards, joined, alone=True)
    return joined


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl without timings."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("time/")} for line in lines]
