"""Files that are there whole or not at all, also when several processes write them or one is killed.

Each is written beside its place under a name of this process's own, and renamed into it.
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
    """A file to write, which takes its name when the block ends well. Directories are made."""
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
    """`write_text` of JSON, for people to read too."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def place(existing: Path, path: Path) -> None:
    """Let `path` be the same file by another name: a hard link, or a copy where the file system has none."""
    if path.exists() and path.samefile(existing):
        return  # a rename onto another name of the same file would do nothing and leave the draft
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
