"""Atomic file writes: a file exists completely or not at all, even if several processes write it or one is killed.

Each file is written next to its destination under a process-specific name, then renamed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, moved to `path` when the block ends without an error. Creates parent directories."""
    draft = _draft(path)
    try:
        with draft.open("wb") as file:
            yield file
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write or replace a file."""
    with whole_file(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """`write_text` of indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def place(existing: Path, path: Path) -> None:
    """Make `path` the same file under another name: a hard link, or a copy if the file system has no links."""
    if path.exists() and path.samefile(existing):
        return  # renaming onto another link to the same file is a no-op and would leave the draft behind
    draft = _draft(path)
    draft.unlink(missing_ok=True)
    try:
        os.link(existing, draft)
    except OSError:
        shutil.copyfile(existing, draft)
    draft.replace(path)


def _draft(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}")
