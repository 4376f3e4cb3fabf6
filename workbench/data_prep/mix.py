"""`edit-r1 data mix`: merges several lists into one, shuffled, with each task type up to its cap.

The seed determines the order of the lines; of a capped type, the first lines are kept. A line's rank is a hash of the
seed and its content, so the order of the inputs and of their lines does not matter.
Source: arXiv:2510.16888, Section 3.1 (600 each for reference and extract).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edit_r1.shared.errors import ConfigError
from edit_r1.shared.schemas import task_key
from edit_r1.trainer.tasks.task_line import TaskLine
from edit_r1.workbench.data_prep.formats import renamed
from edit_r1.workbench.data_prep.input_lists import InputList
from edit_r1.workbench.data_prep.pictures import Renaming

PAPER_CAPS = {"reference": 600, "extract": 600}
DUPLICATE = "duplicate line"
NO_TASK = "(no task)"


@dataclass(frozen=True)
class Place:
    """Location of a line of the mixture."""

    rank: bytes
    source: int
    offset: int


@dataclass(frozen=True)
class Mixture:
    """The chosen lines."""

    places: tuple[Place, ...]
    """In output order."""
    num_read: int
    dropped: dict[str, int]
    """Reason -> lines."""


def choose(lists: Sequence[InputList[TaskLine]], caps: Mapping[str, int], seed: int, out_directory: Path) -> Mixture:
    """Read all lists once and choose; keeps only a hash and the location of each line in memory."""
    by_task: dict[str, dict[bytes, Place]] = {}
    num_read = 0
    dropped: Counter[str] = Counter()
    for source, one in enumerate(lists):
        rename = Renaming(one.path.parent, out_directory)
        for line in one.lines():
            num_read += 1
            rank = _rank(seed, renamed(line.value, rename))
            same_type = by_task.setdefault(task_name(line.value), {})
            dropped[DUPLICATE] += rank in same_type
            same_type.setdefault(rank, Place(rank, source, line.offset))
    chosen: list[Place] = []
    for task, places in by_task.items():
        cap = caps.get(task, len(places))
        chosen += sorted(places.values(), key=_by_rank)[:cap]
        dropped[f"{task} above its cap of {cap}"] += max(0, len(places) - cap)
    return Mixture(tuple(sorted(chosen, key=_by_rank)), num_read, {reason: n for reason, n in dropped.items() if n})


def fetch(lists: Sequence[InputList[TaskLine]], places: Sequence[Place], out_directory: Path) -> Iterator[str]:
    """The text of the line at each place."""
    renames = [Renaming(one.path.parent, out_directory) for one in lists]
    for place in places:
        yield renamed(lists[place.source].at(place.offset), renames[place.source])


def read_caps(given: Sequence[str]) -> dict[str, int]:
    """The paper's caps, overridden by `TASK=N`; `TASK=all` removes one. Raises ConfigError."""
    caps = dict(PAPER_CAPS)
    for text in given:
        task, equals, number = text.partition("=")
        if not equals or not task.strip() or not (number == "all" or number.isdecimal()):
            raise ConfigError(f"--cap {text!r} must be TASK=N or TASK=all")
        if number == "all":
            caps.pop(task_key(task), None)
        else:
            caps[task_key(task)] = int(number)
    return caps


def task_name(task: TaskLine) -> str:
    """The task's type in canonical spelling, for counts and caps."""
    return NO_TASK if task.task is None else task_key(task.task)


def _rank(seed: int, text: str) -> bytes:
    return hashlib.blake2b(f"{seed}/{text}".encode(), digest_size=16).digest()


def _by_rank(place: Place) -> bytes:
    return place.rank
