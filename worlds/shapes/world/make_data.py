"""Write the world's task lists and sample edits.

    python -m edit_r1.worlds.shapes.world.make_data [--out worlds/shapes]

    data/train.jsonl, data/held_out.jsonl, data/images/SPLIT-NNN.png    task lists in the trainer's format
    samples/NN/{source,done,half,untouched,wrong}.png                   sample edits, also used by the self-test,
    samples/NN/{instruction,task}.txt                                   with their instructions and task types

The files are the same on every machine; a test regenerates and compares them.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edit_r1.shared.jsonl import write_rows
from edit_r1.worlds.shapes.world.oracle import SUCCESS_THRESHOLD, score_pixels
from edit_r1.worlds.shapes.world.scenes import Pixels, Scene, render, to_image
from edit_r1.worlds.shapes.world.tasks import (
    TASKS,
    ShapesTask,
    Split,
    edit,
    possible_tasks,
    sample_scene,
    sample_task,
    wrong_edit,
)

NUM_IMAGES: dict[Split, int] = {"train": 256, "held_out": 64}
TASKS_PER_IMAGE = 3
NUM_SAMPLES = 12
_SEED = 2026


def write_data(out: Path) -> None:
    """Write data/ under `out`, replacing existing files."""
    directory = out / "data"
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "images").mkdir(parents=True)
    for number, (split, num_images) in enumerate(NUM_IMAGES.items()):
        rng = np.random.default_rng([_SEED, number])
        lines = []
        # Draw all scenes before the first task: both use the same random stream.
        for index, scene in enumerate(list(itertools.islice(distinct_scenes(rng, split), num_images))):
            image = f"images/{split}-{index:03d}.png"
            write_png(directory / image, render(scene))
            lines += [task_line(image, task) for task in tasks_of(rng, scene, TASKS_PER_IMAGE * index)]
        write_rows(directory / f"{split}.jsonl", lines)


def write_samples(out: Path) -> None:
    """Write samples/ under `out`, replacing existing files: held-out tasks of all types."""
    directory = out / "samples"
    shutil.rmtree(directory, ignore_errors=True)
    rng = np.random.default_rng([_SEED, len(NUM_IMAGES)])
    for index in range(NUM_SAMPLES):
        task = _task_of_type(rng, TASKS[index % len(TASKS)])
        folder = directory / f"{index:02d}"
        folder.mkdir(parents=True)
        scenes = {"source": task.source, "done": task.target, "untouched": task.source, "wrong": _wrong(rng, task)}
        pictures = {name: render(scene) for name, scene in scenes.items()}
        for name, pixels in {**pictures, "half": _half(pictures["source"], pictures["done"])}.items():
            write_png(folder / f"{name}.png", pixels)
        (folder / "instruction.txt").write_text(f"{task.instruction}\n")
        (folder / "task.txt").write_text(f"{task.task}\n")


def distinct_scenes(rng: np.random.Generator, split: Split) -> Iterator[Scene]:
    """Yields distinct scenes of one split, endlessly."""
    seen: set[str] = set()
    while True:
        scene = sample_scene(rng, split)
        if scene.digest() not in seen:
            seen.add(scene.digest())
            yield scene


def tasks_of(rng: np.random.Generator, scene: Scene, turn: int, count: int = TASKS_PER_IMAGE) -> list[ShapesTask]:
    """Up to `count` tasks of different types for a scene; the types rotate over the images."""
    order = [TASKS[(turn + i) % len(TASKS)] for i in range(len(TASKS))]
    possible = [name for name in order if name in possible_tasks(scene)]
    return [edit(rng, scene, name) for name in possible[:count]]


def task_line(image: str, task: ShapesTask) -> dict[str, object]:
    """A task as a line of a task list, with its scenes in the metadata."""
    scenes = {"source": task.source.to_json(), "target": task.target.to_json()}
    return {"prompt": task.instruction, "image": image, "task": task.task, "metadata": scenes}


def write_png(path: Path, pixels: Pixels) -> None:
    """Write an image as an optimized PNG."""
    to_image(pixels).save(path, optimize=True)


def _task_of_type(rng: np.random.Generator, name: str) -> ShapesTask:
    while True:
        task = sample_task(rng, "held_out")
        if task.task == name:
            return task


def _half(source: Pixels, done: Pixels) -> Pixels:
    """A partial edit with two thirds of the change."""
    return np.asarray((source.astype(np.float32) + 2.0 * done.astype(np.float32)) / 3 + 0.5, np.uint8)


def _wrong(rng: np.random.Generator, task: ShapesTask) -> Scene:
    """An edit that changed something, but not what was asked."""
    while True:
        scene = wrong_edit(rng, task)
        score = score_pixels(render(task.source), render(task.target), render(scene))
        if scene != task.source and score < SUCCESS_THRESHOLD / 2:
            return scene


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1])
    arguments = parser.parse_args()
    write_data(arguments.out)
    write_samples(arguments.out)


if __name__ == "__main__":
    main()
