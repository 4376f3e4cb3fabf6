"""Versions of installed packages, for what the programs say and record about themselves. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Version by package; packages that are not installed are left out, as Edit-R1 itself is in a bare checkout."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
