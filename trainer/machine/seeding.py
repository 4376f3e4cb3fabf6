"""Random numbers that belong to a sample, not to a process.

Every draw of noise is seeded by its use: (seed, purpose, epoch, group, candidate). So two processes draw the same noise
as one, and a resumed run draws the same noise as an uninterrupted one.
"""

from __future__ import annotations

import hashlib

import torch


def derived_seed(seed: int, purpose: str, *indices: int) -> int:
    """A 63-bit seed for one purpose; the same on every machine."""
    key = f"{seed}/{purpose}/{'/'.join(map(str, indices))}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) >> 1


def generator(seed: int, purpose: str, *indices: int) -> torch.Generator:
    """A CPU generator seeded by `derived_seed`; drawing on the CPU gives the same noise for every device."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose, *indices))
