"""Lets one process of each node go first, before the process group exists.

    with local_main_first(cache / "list.lock"):
        prepare_or_find_in_cache()

Launchers set LOCAL_RANK (torchrun, accelerate); without it a process is the first of its node.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from edit_r1.shared.files import write_text

_HEAD_START_SECONDS = 30.0
"""How long the others wait for the first process to begin; after that they do without it."""
_POLL_SECONDS = 0.05


@contextmanager
def local_main_first(lock: Path) -> Iterator[None]:
    """Run the block on the node's first process, then, when it has ended, on the others.

    If the block raises on the first process, the others run it too: usually they raise the same error, but later, so
    the first process is the one that reports it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    turn, launch = lock.with_suffix(".turn"), str(os.getppid())  # a launcher is the parent of its node's processes
    if os.environ.get("LOCAL_RANK", "0") == "0":
        with FileLock(lock):
            write_text(turn, launch)
            yield
        return
    deadline = time.monotonic() + _HEAD_START_SECONDS
    while time.monotonic() < deadline and not (turn.exists() and turn.read_text() == launch):
        time.sleep(_POLL_SECONDS)
    with FileLock(lock):
        pass
    yield
