"""Questions to nvidia-smi, which answers without torch and without occupying a GPU. Standard library only."""

from __future__ import annotations

import shutil
import subprocess

_PATIENCE_SECONDS = 10.0


def first_gpu(*fields: str) -> tuple[str, ...] | None:
    """Fields of the first GPU, named as in `nvidia-smi --help-query-gpu`; None without nvidia-smi or a GPU."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    asked = [command, f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    values = tuple(answer.stdout.partition("\n")[0].split(", "))
    return values if len(values) == len(fields) else None
