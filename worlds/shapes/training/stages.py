"""What the trainings of editor and judge share: a recipe that can be scaled, and stages that are kept.

A kept stage is a directory with what was made and a `stage.json`: what it was made by, and the seconds it took. The
next run need not repeat it; a stage that was made by something else is refused, not used.
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
    """Steps and sizes of a training's stages; each training adds its own."""

    SCALED: ClassVar[tuple[str, ...]]
    """The fields that count steps and examples: `--scale` multiplies them."""

    def scaled(self, scale: float) -> Self:
        """The same recipe with fewer (or more) steps and examples; at least eight of each."""
        return replace(self, **{name: max(8, round(getattr(self, name) * scale)) for name in self.SCALED})

    def part(self, *names: str) -> dict[str, Any]:
        """These of its fields."""
        return {name: getattr(self, name) for name in names}


def keep_stage(directory: Path, made_by: Mapping[str, Any], make: Callable[[Path], None]) -> float:
    """Have `make` fill the directory, unless it did before; returns the seconds that took.

    Args:
        directory: of this stage alone.
        made_by: all that the stage depends on, as JSON values.
        make: trains and saves.

    Raises:
        CheckpointError: the directory holds a stage that was made by something else.

    """
    note = directory / _NOTE
    if not note.exists():  # written last: a stage that was cut off is made again
        started = time.monotonic()
        make(directory)
        seconds = round(time.monotonic() - started)
        write_json(note, {"made_by": dict(made_by), "seconds": seconds})
    kept = read_made_by(directory)
    differ = [
        f"{name} was {kept.get(name)!r}, it is {made_by.get(name)!r}"
        for name in sorted({*kept, *made_by})
        if kept.get(name) != made_by.get(name)
    ]
    if differ:
        raise CheckpointError(
            f"{directory} holds a stage of another recipe: {'; '.join(differ)}; delete it, or give another --work"
        )
    return float(json.loads(note.read_text())["seconds"])


def read_made_by(directory: Path) -> dict[str, Any]:
    """What a kept stage was made by. Raises CheckpointError where there is none."""
    note = directory / _NOTE
    if not note.is_file():
        raise CheckpointError(f"{directory} holds no finished stage: {_NOTE} is missing")
    made_by: dict[str, Any] = json.loads(note.read_text())["made_by"]
    return made_by
