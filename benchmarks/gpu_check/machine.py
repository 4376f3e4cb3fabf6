"""Card, driver and versions, found without importing torch: the runner must not occupy the GPU."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from importlib import metadata

_PATIENCE_SECONDS = 10.0
_LIBRARIES = ("torch", "transformers", "diffusers", "peft")


def machine() -> dict[str, str | None]:
    """Name -> value; None for what this machine does not have or does not tell."""
    card, memory, driver = _nvidia_smi("name,memory.total,driver_version")
    return {
        "card": card or _card_by_torch(),
        "card_memory": memory,
        "driver": driver,
        "python": platform.python_version(),
        **{name: _version(name) for name in _LIBRARIES},
    }


def _nvidia_smi(fields: str) -> tuple[str | None, str | None, str | None]:
    """Three fields of the first GPU."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None, None, None
    asked = [command, f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=True)  # noqa: S603
        card, memory, driver = answer.stdout.splitlines()[0].split(", ")
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return None, None, None
    return card, memory, driver


def _card_by_torch() -> str | None:
    """The card's name where there is no nvidia-smi; in a process of its own, which gives the GPU back."""
    program = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)  # noqa: S603
    return answer.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
