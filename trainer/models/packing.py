"""Packing of latents for FLUX-like transformers: 2x2 patches in reading order. Pure.

Legend: B rows, C latent channels; a latent is [B, C, 2 rows, 2 columns], its tokens are [B, rows * columns, 4 C].
"""

from __future__ import annotations

from torch import Tensor


def pack(latents: Tensor) -> Tensor:
    """[B, C, 2 rows, 2 columns] -> [B, rows * columns, 4 C]."""
    batch, channels, height, width = latents.shape
    patches = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpack(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of `pack`."""
    patches = tokens.reshape(len(tokens), rows, columns, -1, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
