"""Editing every item of a benchmark once: shared out among processes, resumable, each picture kept by its content.

A picture's file is named by all that it depends on: model, adapter, settings, source, instruction, seed. What is there
already is not made again, whoever made it. Noise depends on seed and item alone, so N processes make what one would.
No process group: each makes its share and leaves; the first waits for the files of the others.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from edit_r1.shared.errors import DataError
from edit_r1.shared.files import write_bytes
from edit_r1.shared.images import content_hash, encode_png
from edit_r1.trainer.machine.seeding import derived_seed
from edit_r1.trainer.tasks.task_list import open_picture
from edit_r1.workbench.evaluation.benchmarks import Item
from edit_r1.workbench.evaluation.sharing import Share

_PATIENCE_SECONDS = 1800.0
_POLL_SECONDS = 0.5


class Edits(Protocol):
    """An editor at work."""

    def edit(self, sources: Sequence[Image.Image], instruction: str, *, seed: int) -> Image.Image:
        """One edit, its noise from the seed."""


def picture_path(store: Path, identity: Mapping[str, Any], item: Item, seed: int) -> Path:
    """Where the item's picture by this editor is kept."""
    parts = [identity, content_hash(item.source.read_bytes()), item.instruction, item_seed(seed, item)]
    name = content_hash(json.dumps(parts, sort_keys=True).encode())
    return store / name[:2] / f"{name}.png"


def item_seed(seed: int, item: Item) -> int:
    """Of the item's noise."""
    return derived_seed(seed, f"benchmark/{item.key}")


def generate(
    items: Sequence[Item],
    paths: Mapping[str, Path],
    load: Callable[[], Edits],
    *,
    seed: int,
    share: Share,
    tell: Callable[[str], None],
) -> None:
    """Make our share of the pictures that are not there. paths: by item key. load: called when there is work.

    Raises DataError for a source that cannot be read.
    """
    mine = [item for item in items[share.rank :: share.count] if not paths[item.key].exists()]
    if not mine:
        return
    editor = load()
    for number, item in enumerate(mine, start=1):
        edited = editor.edit([open_picture(item.source)], item.instruction, seed=item_seed(seed, item))
        write_bytes(paths[item.key], encode_png(edited))
        if number % max(1, len(mine) // 20) == 0:
            tell(f"process {share.rank}: made {number} of {len(mine)} pictures")


def wait_for(paths: Iterable[Path], tell: Callable[[str], None], patience_seconds: float = _PATIENCE_SECONDS) -> None:
    """Until the other processes' pictures are there. Raises DataError when none has come for `patience_seconds`."""
    missing = {path for path in paths if not path.exists()}
    if missing:
        tell(f"waiting for {len(missing)} pictures of the other processes")
    deadline = time.monotonic() + patience_seconds
    while missing:
        left = {path for path in missing if not path.exists()}
        if left < missing:
            missing, deadline = left, time.monotonic() + patience_seconds
        elif time.monotonic() > deadline:
            raise DataError(
                f"{len(missing)} pictures of other processes have not come for {patience_seconds:.0f} s; "
                f"run the same command again, in one process if you like: those that are there are kept"
            )
        else:
            time.sleep(_POLL_SECONDS)
