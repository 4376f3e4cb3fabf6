"""Complaints of other people's packages that a user can do nothing about.

diffusers imports torchao wherever it is installed, asked for or not, and both complain of it: a terminal would not be
clean and a JSON log would not be one any more.
"""

from __future__ import annotations

import logging

_COMPLAINERS = ("torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer")


def hush() -> None:
    """Call before torch is imported: entry points do."""
    for name in _COMPLAINERS:
        logging.getLogger(name).setLevel(logging.ERROR)
