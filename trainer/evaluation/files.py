"""Files that are there whole or not at all, also when several processes write them or one is killed; and pictures."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from PIL import Image

from shared.errors import DataError, ImageError
from shared.images import decode


def write_bytes(path: Path, data: bytes) -> None:
    """Write beside the place and rename into it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(data)
    draft.replace(path)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8."""
    write_bytes(path, text.encode())


def place(existing: Path, path: Path) -> None:
    """Let `path` be the same file by another name: a hard link, or a copy where the file system has none."""
    if path.exists() and path.samefile(existing):
        return  # a rename onto another name of the same file would do nothing and leave the draft
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        os.link(existing, draft)
    except OSError:
        shutil.copyfile(existing, draft)
    draft.replace(path)


def open_picture(path: Path) -> Image.Image:
    """Upright, RGB. Raises DataError naming the file."""
    try:
        return decode(path.read_bytes())
    except (OSError, ImageError) as error:
        raise DataError(f"picture {path}: {error}") from error
