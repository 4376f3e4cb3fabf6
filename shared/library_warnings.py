"""Silences warnings of third-party packages that users can do nothing about.

diffusers imports torchao wherever it is installed, needed or not, and both log warnings about it, which would clutter
the terminal and corrupt a JSON log.
"""

from __future__ import annotations

import logging

_COMPLAINERS = ("torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer")


def silence_library_warnings() -> None:
    """Raise these loggers' level to ERROR; entry points call this before torch is imported."""
    for name in _COMPLAINERS:
        logging.getLogger(name).setLevel(logging.ERROR)
