"""What this machine has: its NVIDIA driver, its memory, the space of a file system."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import psutil

_OLDEST_DRIVERS = {"11": 450, "12": 525, "13": 580}
"""CUDA's major version -> oldest driver that runs it (NVIDIA's CUDA compatibility guide)."""
_PATIENCE_SECONDS = 10.0


def driver_version() -> str | None:
    """The NVIDIA driver's version, as nvidia-smi tells it; None where there is none or it cannot talk to a GPU."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    asked = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    lines = answer.stdout.split()
    return lines[0] if lines and lines[0][0].isdigit() else None


def driver_needed(cuda: str) -> int | None:
    """The oldest driver for a CUDA version such as "13.0"; None if it is not known here."""
    return _OLDEST_DRIVERS.get(cuda.partition(".")[0])


def memory_bytes() -> int:
    """All of this machine's main memory."""
    return psutil.virtual_memory().total


def room_for(directory: Path) -> int:
    """Bytes that `directory`, which need not exist yet, may take: what its file system has free and what it holds."""
    there = next(parent for parent in (directory, *directory.absolute().parents) if parent.exists())
    held = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    return shutil.disk_usage(there).free + held
