"""Shared by the trainings of editor and judge: a scalable recipe, and cached stages.

A cached stage is a directory with the stage's output and a `stage.json` with the settings that produced it and the
seconds it took. The next run reuses it; a stage made with other settings is rejected.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from edit_r1.shared.errors import CheckpointError
from edit_r1.shared.files import write_json

_NOTE = "stage.json"


@dataclass(frozen=True)
class Recipe:
    """Steps and sizes of a training's stages; each training adds its own fields."""

    SCALED: ClassVar[tuple[str, ...]]
    """Fields with numbers of steps and examples, which `--scale` multiplies."""

    def scaled(self, scale: float) -> Self:
        """The same recipe with fewer (or more) steps and examples; at least eight of each."""
        return replace(self, **{name: max(8, round(getattr(self, name) * scale)) for name in self.SCALED})

    def part(self, *names: str) -> dict[str, Any]:
        """The named fields as a dictionary."""
        return {name: getattr(self, name) for name in names}


def keep_stage(directory: Path, made_by: Mapping[str, Any], make: Callable[[Path], None]) -> float:
    """Let `make` fill the directory unless it already has; returns the seconds it took.

    Args:
        directory: directory of this stage only.
        made_by: all settings the stage depends on, as JSON values.
        make: trains and saves.

    Raises:
        CheckpointError: the directory contains a stage made with other settings.

    """
    note = directory / _NOTE
    if not note.exists():  # written last, so that an interrupted stage is repeated
        started = time.monotonic()
        make(directory)
        seconds = round(time.monotonic() - started)
        write_json(note, {"made_by": dict(made_by), "seconds": seconds})
    kept = read_made_by(directory)
    differ = [
        f"{name} was {kept.get(name)!r}, now {made_by.get(name)!r}"
        for name in sorted({*kept, *made_by})
        if kept.get(name) != made_by.get(name)
    ]
    if differ:
        raise CheckpointError(
            f"{directory} contains a stage of another recipe: {'; '.join(differ)}; delete it, or use another --work"
        )
    return float(json.loads(note.read_text())["seconds"])


def read_made_by(directory: Path) -> dict[str, Any]:
    """The settings a cached stage was made with. Raises CheckpointError if there is no stage."""
    note = directory / _NOTE
    if not note.is_file():
        raise CheckpointError(f"{directory} contains no finished stage: {_NOTE} is missing")
    made_by: dict[str, Any] = json.loads(note.read_text())["made_by"]
    return made_by
