"""Finds package files by their path in the repository, from any directory, e.g. `worlds/shapes/nft.yaml`.

    find("worlds/shapes/editor")     # unchanged if it exists, else the installed package's copy

Saved files (a run's configuration, its report) keep the short name, which means the same on every machine.
"""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGE = "worlds"
"""The package whose files are looked up; any other path is the caller's own."""


def find(name: str) -> str:
    """Resolve a `worlds/...` path missing from the working directory to the package's own file, if there is one."""
    path = Path(name)
    if path.is_absolute() or path.parts[:1] != (_PACKAGE,) or ".." in path.parts or path.exists():
        return name
    own = _ROOT / path
    return str(own) if own.exists() else name


def find_path(path: Path) -> Path:
    """`find` for a Path."""
    return Path(find(str(path)))
