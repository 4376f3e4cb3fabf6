"""`edit-r1 data check`: is a task list fit to train on? Decodes every picture and looks for lines that say the same.

Enters: a task list. Leave: counts by fault, by task type and by picture size; the lines without a fault.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from edit_r1.shared.errors import DataError
from edit_r1.trainer.tasks.task_list import TaskLine
from edit_r1.workbench.data_prep import pictures
from edit_r1.workbench.data_prep.geometry import Size
from edit_r1.workbench.data_prep.lists import Line
from edit_r1.workbench.data_prep.mix import task_name

DUPLICATE = "same picture, same prompt as line "
_LOOKED_AT = 1024


@dataclass(frozen=True)
class Look:
    """What one picture is."""

    digest: bytes
    """Of its pixels: the same picture in another file or codec is the same picture."""
    size: Size


@dataclass
class Summary:
    """What was found so far."""

    num_read: int = 0
    by_task: Counter[str] = field(default_factory=Counter)
    """Sound lines."""
    by_size: Counter[Size] = field(default_factory=Counter)
    """Source pictures of sound lines."""
    faults: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Finding:
    """A line and what is wrong with it."""

    line: Line[TaskLine]
    fault: str | None
    """None for a sound line."""


def examine(lines: Iterator[Line[TaskLine]], directory: Path, summary: Summary) -> Iterator[Finding]:
    """Look at every line; keeps a hash of each, no picture. The summary grows as findings are taken."""
    seen: dict[bytes, int] = {}
    look = lru_cache(maxsize=_LOOKED_AT)(_look)
    for line in lines:
        summary.num_read += 1
        try:
            looks = [look(directory / name) for name in line.value.names]
        except DataError as error:
            summary.faults[str(error)] += 1
            yield Finding(line, f"{error}: {error.__cause__} ({', '.join(line.value.names)})")
            continue
        key = hashlib.blake2b(line.value.prompt.encode(), digest_size=16)
        for one in looks:
            key.update(one.digest)
        first = seen.setdefault(key.digest(), line.number)
        if first != line.number:
            summary.faults["duplicate"] += 1
            yield Finding(line, f"{DUPLICATE}{first}")
            continue
        summary.by_task[task_name(line.value)] += 1
        summary.by_size.update(one.size for one in looks)
        yield Finding(line, None)


def _look(path: Path) -> Look:
    picture = pictures.load(path)
    size = f"{picture.width}x{picture.height}/".encode()
    return Look(hashlib.blake2b(size + picture.tobytes(), digest_size=16).digest(), picture.size)
