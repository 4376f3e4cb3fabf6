"""Manifests of checkpoints: size and SHA-256 of every file, by which damage is detected."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypedDict

from edit_r1.shared.errors import CheckpointError
from edit_r1.shared.files import write_json

MANIFEST_NAME = "manifest.json"


class Entry(TypedDict):
    """A file in a manifest."""

    bytes: int
    sha256: str


def entries_of(directory: Path, files: Iterable[Path]) -> dict[str, Entry]:
    """Flush files to disk and hash them; returns their entries by path relative to the directory."""
    entries: dict[str, Entry] = {}
    for path in files:
        sync(path)
        entries[str(path.relative_to(directory))] = {"bytes": path.stat().st_size, "sha256": _digest(path)}
    return entries


def write_manifest(directory: Path, entries: Mapping[str, Entry]) -> None:
    """Write the manifest, flushed to disk. Raises CheckpointError when a file that should be there is not."""
    missing = [name for name in entries if not (directory / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{directory / missing[0]} was written by another process but is not visible to the main process: run_dir "
            f"must be on a file system that all nodes share"
        )
    write_json(directory / MANIFEST_NAME, dict(sorted(entries.items())))
    sync(directory / MANIFEST_NAME)


def damage(checkpoint: Path) -> str | None:
    """Short description of a checkpoint's damage; None when it is complete."""
    try:
        manifest = json.loads((checkpoint / MANIFEST_NAME).read_text(encoding="utf-8"))
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return f"{MANIFEST_NAME} is missing or unreadable ({type(error).__name__})"
    for name, (num_bytes, digest) in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != num_bytes:
            return f"{name} has {path.stat().st_size:,} of {num_bytes:,} bytes"
        if _digest(path) != digest:
            return f"{name} does not match its SHA-256 in {MANIFEST_NAME}"
    return None


def sync(path: Path) -> None:
    """Flush to disk; otherwise a rename may become durable before the contents."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
