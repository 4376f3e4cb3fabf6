"""`edit-r1 data shapes`: a data set of the demo world, for trying the other commands and training.

From a seed and a number of images it makes the images, a task list, and a list of their objects with boxes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from edit_r1.workbench.data_prep.formats import LabelledBox, ObjectsLine, to_text
from edit_r1.workbench.data_prep.resumable_jobs import Job, Outcome
from edit_r1.workbench.data_prep.terminal import Out, Restart, Seed, run_job
from edit_r1.worlds.shapes.world.make_data import distinct_scenes, task_line, tasks_of, write_png
from edit_r1.worlds.shapes.world.scenes import SIZE, Scene, box_of, render
from edit_r1.worlds.shapes.world.tasks import Split


@dataclass(frozen=True)
class ShapesSet:
    """Parameters of a data set."""

    directory: Path
    """Directory of the lists; images go to its images/."""
    split: Split
    count: int
    """Number of images."""
    tasks_per_picture: int
    seed: int

    def scenes(self, start: int) -> Iterator[tuple[int, Scene]]:
        """The numbered scenes from the `start`-th on."""
        scenes = enumerate(distinct_scenes(np.random.default_rng([self.seed, 0]), self.split))
        return itertools.islice(scenes, start, self.count)

    def write_tasks(self, numbered: tuple[int, Scene]) -> Outcome:
        """Write a scene's image and return its tasks."""
        number, scene = numbered
        write_png(self.directory / self._image(number), render(scene))
        # One random stream per scene, so that a resumed command draws the same tasks.
        rng = np.random.default_rng([self.seed, 1, number])
        tasks = tasks_of(rng, scene, self.tasks_per_picture * number, self.tasks_per_picture)
        return Outcome(tuple(json.dumps(task_line(self._image(number), task)) for task in tasks))

    def objects(self, numbered: tuple[int, Scene]) -> Outcome:
        """The line of a scene's objects."""
        number, scene = numbered
        found = tuple(
            LabelledBox(label=item.name, box=box_of(cell, item)) for cell, item in enumerate(scene.cells) if item
        )
        line = ObjectsLine(image=self._image(number), width=SIZE, height=SIZE, objects=found)
        return Outcome((to_text(line),))

    def _image(self, number: int) -> str:
        return f"images/{self.split}-{number:05d}.png"


def shapes(
    *,
    out: Out,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="Number of images.")] = 256,
    tasks_per_picture: Annotated[
        int, typer.Option(min=1, max=6, help="Number of tasks, of different types, per image.")
    ] = 3,
    split: Annotated[Split, typer.Option(help="Split of the world; the splits share no scenes.")] = "train",
    seed: Seed = 0,
    restart: Restart = False,
) -> None:
    """Write a data set of the demo world. Writes a task list, its images, and OUTPUT.objects.jsonl with boxes."""
    (out.parent / "images").mkdir(parents=True, exist_ok=True)
    world = ShapesSet(out.parent, split, count, tasks_per_picture, seed)
    options = {"split": split, "count": count, "tasks_per_picture": tasks_per_picture, "seed": seed}
    run_job(Job("shapes", out, {}, options, restart), world.scenes, world.write_tasks, count)
    objects = out.with_name(f"{out.stem}.objects.jsonl")
    run_job(Job("shapes objects", objects, {}, options, restart), world.scenes, world.objects, count)
