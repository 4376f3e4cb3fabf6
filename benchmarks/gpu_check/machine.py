"""Card, driver and versions, found without importing torch: the runner must not occupy the GPU."""

from __future__ import annotations

import platform
import subprocess
import sys

from edit_r1.shared.versions import installed_versions
from edit_r1.trainer.machine import nvidia

_LIBRARIES = ("torch", "transformers", "diffusers", "peft")


def machine() -> dict[str, str | None]:
    """Name -> value; None for what this machine does not have or does not tell."""
    card, memory, driver = nvidia.first_gpu("name", "memory.total", "driver_version") or (None, None, None)
    return {
        "card": card or _card_by_torch(),
        "card_memory": memory,
        "driver": driver,
        "python": platform.python_version(),
        **installed_versions(_LIBRARIES),
    }


def _card_by_torch() -> str | None:
    """The card's name where there is no nvidia-smi; in a process of its own, which gives the GPU back."""
    program = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)  # noqa: S603
    return answer.stdout.strip() or None
