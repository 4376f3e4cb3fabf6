"""`edit-r1 data shapes`: a data set of the embedded world, to try the other commands and a training on.

Enter: a seed and a number of pictures. Leave: the pictures, a task list of them, and their objects with boxes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edit_r1.workbench.data_prep.formats import LabelledBox, ObjectsLine, to_text
from edit_r1.workbench.data_prep.streaming import Outcome
from edit_r1.worlds.shapes.world.make_data import distinct_scenes, task_line, tasks_of, write_png
from edit_r1.worlds.shapes.world.scenes import SIZE, Scene, box_of, render
from edit_r1.worlds.shapes.world.tasks import Split


@dataclass(frozen=True)
class ShapesSet:
    """What makes a data set what it is."""

    directory: Path
    """Of the lists; pictures go to its images/."""
    split: Split
    count: int
    """Pictures."""
    tasks_per_picture: int
    seed: int

    def scenes(self, start: int) -> Iterator[tuple[int, Scene]]:
        """The numbered scenes from the `start`-th on."""
        scenes = enumerate(distinct_scenes(np.random.default_rng([self.seed, 0]), self.split))
        return itertools.islice(scenes, start, self.count)

    def write_tasks(self, numbered: tuple[int, Scene]) -> Outcome:
        """Writes a scene's picture; its tasks."""
        number, scene = numbered
        write_png(self.directory / self._image(number), render(scene))
        # A stream for each scene, so that a command that goes on draws what it would have drawn.
        rng = np.random.default_rng([self.seed, 1, number])
        tasks = tasks_of(rng, scene, self.tasks_per_picture * number, self.tasks_per_picture)
        return Outcome(tuple(json.dumps(task_line(self._image(number), task)) for task in tasks))

    def objects(self, numbered: tuple[int, Scene]) -> Outcome:
        """A scene's objects."""
        number, scene = numbered
        found = tuple(
            LabelledBox(label=item.name, box=box_of(cell, item)) for cell, item in enumerate(scene.cells) if item
        )
        line = ObjectsLine(image=self._image(number), width=SIZE, height=SIZE, objects=found)
        return Outcome((to_text(line),))

    def _image(self, number: int) -> str:
        return f"images/{self.split}-{number:05d}.png"
