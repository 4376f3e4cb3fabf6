"""A run's records on disk: evaluations and rollouts, with images. The report is built from these alone.

RUN_DIR/evaluations/epoch-0012/records.json, 000.webp, ...
RUN_DIR/rollouts/epoch-0012/records.json, 000-source.webp, 000-00.webp, ...
"""

from __future__ import annotations

import json
import platform
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict

from edit_r1.shared import images
from edit_r1.shared.files import write_json, write_text
from edit_r1.shared.schemas import ServiceInfo
from edit_r1.shared.versions import installed_versions

EVALUATIONS, ROLLOUTS, VERSIONS = "evaluations", "rollouts", "versions.json"
_RECORDS = "records.json"


class Record(BaseModel):
    """Base class of all records."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EvaluatedTask(Record):
    """One held-out task, edited once."""

    index: int
    """Position among the held-out tasks."""
    instruction: str
    task: str | None
    reward: float | None
    """None when the score is missing."""
    metrics: dict[str, float]
    """Evaluation metrics, and the rewards of several terms as `reward/NAME`; those that are missing have no entry."""
    source: str | None = None
    """File name of the source image; None when no image was kept."""
    edited: str | None = None


class Evaluation(Record):
    """Evaluation of all held-out tasks at one epoch."""

    epoch: int
    tasks: tuple[EvaluatedTask, ...]

    def of_type(self, name: str) -> Evaluation:
        """The same evaluation, restricted to one task type."""
        return self.model_copy(update={"tasks": tuple(task for task in self.tasks if task.task == name)})

    def means(self) -> dict[str, float | None]:
        """Mean reward (None when there is none) and mean of every metric, each over the tasks that have it."""
        rewards = [task.reward for task in self.tasks if task.reward is not None]
        values: dict[str, list[float]] = {}
        for task in self.tasks:
            for name, value in task.metrics.items():
                values.setdefault(name, []).append(value)
        means = {name: sum(found) / len(found) for name, found in values.items()}
        return {"reward": sum(rewards) / len(rewards) if rewards else None, **means}


class ShownGroup(Record):
    """A group of candidates as shown in the report."""

    index: int
    instruction: str
    task: str | None
    source: str
    candidates: tuple[str, ...]
    """File names."""
    rewards: tuple[float | None, ...]
    dropped_because: str | None
    """Reason for dropping the group; None when it was kept."""
    standing: str | None = None
    """best or worst of its epoch by mean reward; None for neither."""

    @property
    def best_first(self) -> list[int]:
        """Candidate positions by descending reward; ties keep their order, missing scores come last."""
        known = [index for index, reward in enumerate(self.rewards) if reward is not None]
        missing = [index for index, reward in enumerate(self.rewards) if reward is None]
        return sorted(known, key=lambda index: -(self.rewards[index] or 0.0)) + missing


class ShownRollouts(Record):
    """The recorded groups of one epoch."""

    epoch: int
    groups: tuple[ShownGroup, ...]


def save_evaluation(
    run_dir: Path, evaluation: Evaluation, pictures: dict[int, tuple[Image.Image, Image.Image]]
) -> Evaluation:
    """Write an evaluation; `pictures` holds (source, edited) by task index. Returns it with file names filled in."""
    directory = _fresh(run_dir / EVALUATIONS, evaluation.epoch)
    tasks = tuple(
        task.model_copy(update=_save_pair(directory, task.index, *pictures[task.index]))
        if task.index in pictures
        else task
        for task in evaluation.tasks
    )
    saved = evaluation.model_copy(update={"tasks": tasks})
    write_text(directory / _RECORDS, saved.model_dump_json())
    return saved


def save_rollouts(run_dir: Path, epoch: int, groups: Sequence[ShownGroup], pictures: Mapping[str, Image.Image]) -> None:
    """Write an epoch's recorded groups and their images, which `pictures` holds by file name."""
    directory = _fresh(run_dir / ROLLOUTS, epoch)
    for group in groups:
        for name in (group.source, *group.candidates):
            (directory / name).write_bytes(images.encode(pictures[name]))
    shown = ShownRollouts(epoch=epoch, groups=tuple(groups))
    write_text(directory / _RECORDS, shown.model_dump_json())


def save_versions(run_dir: Path, services: Mapping[str, ServiceInfo]) -> None:
    """Write the versions a run uses: packages of trainer and reward services, device, judges.

    services: the reward services by reward; a run's only reward has the name `reward`.
    """
    names = ("edit-r1", "torch", "diffusers", "transformers", "accelerate", "peft")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    versions = {
        "python": platform.python_version(),
        **installed_versions(names),
        "device": device,
    }
    judges = {
        "reward service" if name == "reward" else f"reward service of {name}": {
            "model": service.model,
            "engine": service.engine,
            **service.versions,
        }
        for name, service in services.items()
    }
    write_json(run_dir / VERSIONS, {"trainer": versions, **judges})


def read_versions(run_dir: Path) -> dict[str, dict[str, str]]:
    """Read what `save_versions` wrote; empty for runs that predate it."""
    path = run_dir / VERSIONS
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def read_evaluations(run_dir: Path) -> list[tuple[Path, Evaluation]]:
    """All evaluations with the directory of their images, by epoch."""
    found = _records(run_dir / EVALUATIONS)
    return [(path.parent, Evaluation.model_validate_json(path.read_text(encoding="utf-8"))) for path in found]


def read_rollouts(run_dir: Path) -> list[tuple[Path, ShownRollouts]]:
    """All recorded rollouts with the directory of their images, by epoch."""
    found = _records(run_dir / ROLLOUTS)
    return [(path.parent, ShownRollouts.model_validate_json(path.read_text(encoding="utf-8"))) for path in found]


def evaluated_epochs(run_dir: Path) -> set[int]:
    """Epochs that have a recorded evaluation."""
    return {evaluation.epoch for _, evaluation in read_evaluations(run_dir)}


def forget_after(run_dir: Path, epoch: int) -> None:
    """Remove records of later epochs, which a run resumed at `epoch` will write again."""
    for kind in (EVALUATIONS, ROLLOUTS):
        for directory in (run_dir / kind).glob("epoch-*"):
            number = re.fullmatch(r"epoch-(\d+)", directory.name)
            if number and int(number[1]) > epoch:
                shutil.rmtree(directory)


def _save_pair(directory: Path, index: int, source: Image.Image, edited: Image.Image) -> dict[str, str]:
    names = {"source": f"{index:03d}-source.webp", "edited": f"{index:03d}.webp"}
    (directory / names["source"]).write_bytes(images.encode(source))
    (directory / names["edited"]).write_bytes(images.encode(edited))
    return names


def _records(directory: Path) -> Iterator[Path]:
    return iter(sorted(directory.glob(f"epoch-*/{_RECORDS}")))


def _directory(parent: Path, epoch: int) -> Path:
    return parent / f"epoch-{epoch:04d}"


def _fresh(parent: Path, epoch: int) -> Path:
    directory = _directory(parent, epoch)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory
