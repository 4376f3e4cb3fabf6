"""What this machine has: its NVIDIA driver, its memory, the space of a file system."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil

from edit_r1.trainer.machine import nvidia

_OLDEST_DRIVERS = {"11": 450, "12": 525, "13": 580}
"""CUDA's major version -> oldest driver that runs it (NVIDIA's CUDA compatibility guide)."""


def driver_version() -> str | None:
    """The NVIDIA driver's version; None without a driver, or when nvidia-smi cannot communicate with it."""
    found = nvidia.first_gpu("driver_version")
    return found[0] if found and found[0][:1].isdigit() else None


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
