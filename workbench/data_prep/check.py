"""`edit-r1 data check`: validates a task list for training by decoding every image and finding duplicate lines.

Takes a task list; returns counts by error, by task type and by image size, and the valid lines.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from edit_r1.shared.errors import DataError
from edit_r1.shared.sources import Source
from edit_r1.trainer.tasks.rows import TaskRow, TaskRows, valid_rows
from edit_r1.workbench.data_prep import pictures
from edit_r1.workbench.data_prep.geometry import Size
from edit_r1.workbench.data_prep.mix import task_name

DUPLICATE = "same image and prompt as "
_LOOKED_AT = 1024


@dataclass(frozen=True)
class Look:
    """Identity and size of one image."""

    digest: bytes
    """Digest of the pixels: the same image in another file or lossless codec has the same digest."""
    size: Size


@dataclass
class Summary:
    """Counts so far."""

    num_read: int = 0
    by_task: Counter[str] = field(default_factory=Counter)
    """Valid lines by task type."""
    by_size: Counter[Size] = field(default_factory=Counter)
    """Source images of valid lines by size."""
    faults: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Finding:
    """A task and its error, if any."""

    row: TaskRow
    fault: str | None
    """None for a valid task."""


def examine(rows: TaskRows, summary: Summary) -> Iterator[Finding]:
    """Check every task, keeping a hash of each but no images. Updates `summary` as findings are consumed."""
    seen: dict[bytes, int] = {}
    look = lru_cache(maxsize=_LOOKED_AT)(_look)
    for row in valid_rows(rows):
        summary.num_read += 1
        try:
            looks = [look(source) for source in row.sources(rows.root)]
        except DataError as error:
            summary.faults[str(error)] += 1
            paths = [name for name, embedded in zip(row.line.names, row.embedded, strict=True) if embedded is None]
            yield Finding(row, f"{error}: {error.__cause__}" + (f" ({', '.join(paths)})" if paths else ""))
            continue
        key = hashlib.blake2b(row.line.prompt.encode(), digest_size=16)
        for one in looks:
            key.update(one.digest)
        first = seen.setdefault(key.digest(), row.number)
        if first != row.number:
            summary.faults["duplicate"] += 1
            yield Finding(row, f"{DUPLICATE}{rows.unit} {first}")
            continue
        summary.by_task[task_name(row.line)] += 1
        summary.by_size.update(one.size for one in looks)
        yield Finding(row, None)


def _look(source: Source) -> Look:
    picture = pictures.load(source)
    size = f"{picture.width}x{picture.height}/".encode()
    return Look(hashlib.blake2b(size + picture.tobytes(), digest_size=16).digest(), picture.size)
