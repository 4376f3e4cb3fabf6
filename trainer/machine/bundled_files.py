"""Files of the package by their path in the repository, from any directory, e.g. `worlds/shapes/nft.yaml`.

    find("worlds/shapes/editor")     # as it is where there is one, else the installed package's

What is written down (a run's configuration, its report) keeps the short name: it means the same on every machine.
"""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGE = "worlds"
"""The package whose files are named so; a path that begins otherwise is the caller's own."""


def find(name: str) -> str:
    """A path `worlds/...` that is not there from the working directory becomes the package's own, if it has it."""
    path = Path(name)
    if path.is_absolute() or path.parts[:1] != (_PACKAGE,) or ".." in path.parts or path.exists():
        return name
    own = _ROOT / path
    return str(own) if own.exists() else name


def find_path(path: Path) -> Path:
    """The same for a path."""
    return Path(find(str(path)))
