"""Edits every item of a benchmark once: divided among processes, resumable, with content-addressed images.

An image's file name is a hash of all it depends on: model, adapter, settings, source, instruction, seed. Existing
images are reused. Noise depends only on seed and item, so N processes produce the same images as one.
There is no process group: each process generates its share and exits; rank 0 waits for the others' files.
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
from edit_r1.shared.sources import FileSource
from edit_r1.trainer.machine.seeding import derived_seed
from edit_r1.workbench.evaluation.benchmarks import Item
from edit_r1.workbench.evaluation.process_share import Share

_PATIENCE_SECONDS = 1800.0
_POLL_SECONDS = 0.5


class Edits(Protocol):
    """Interface of a loaded editor."""

    def edit(self, sources: Sequence[Image.Image], instruction: str, *, seed: int) -> Image.Image:
        """Make one edit with noise from this seed."""


def picture_path(store: Path, identity: Mapping[str, Any], item: Item, seed: int) -> Path:
    """Path of the item's image by this editor."""
    parts = [identity, content_hash(item.source.read_bytes()), item.instruction, item_seed(seed, item)]
    name = content_hash(json.dumps(parts, sort_keys=True).encode())
    return store / name[:2] / f"{name}.png"


def item_seed(seed: int, item: Item) -> int:
    """Seed of the item's noise."""
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
    """Generate this process's share of the missing images. paths: by item key. load: called only if there is work.

    Raises DataError for an unreadable source.
    """
    mine = [item for item in items[share.rank :: share.count] if not paths[item.key].exists()]
    if not mine:
        return
    editor = load()
    for number, item in enumerate(mine, start=1):
        edited = editor.edit([FileSource(item.source).open()], item.instruction, seed=item_seed(seed, item))
        write_bytes(paths[item.key], encode_png(edited))
        if number % max(1, len(mine) // 20) == 0:
            tell(f"process {share.rank}: generated {number} of {len(mine)} images")


def wait_for(paths: Iterable[Path], tell: Callable[[str], None], patience_seconds: float = _PATIENCE_SECONDS) -> None:
    """Wait for the other processes' images. Raises DataError when none has appeared for `patience_seconds`."""
    missing = {path for path in paths if not path.exists()}
    if missing:
        tell(f"waiting for {len(missing)} images from other processes")
    deadline = time.monotonic() + patience_seconds
    while missing:
        left = {path for path in missing if not path.exists()}
        if left < missing:
            missing, deadline = left, time.monotonic() + patience_seconds
        elif time.monotonic() > deadline:
            raise DataError(
                f"no new images from other processes for {patience_seconds:.0f} s, {len(missing)} are missing; "
                f"rerun the same command, if you like in one process: existing images are reused"
            )
        else:
            time.sleep(_POLL_SECONDS)
