"""The share of this process in an evaluation. Does not import torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from edit_r1.shared.errors import ConfigError


@dataclass(frozen=True)
class Share:
    """Rank of this process among `count` processes."""

    rank: int
    count: int

    @staticmethod
    def from_environment() -> Share:
        """Read RANK and WORLD_SIZE, as set by accelerate launch, torchrun or the user. Raises ConfigError."""
        try:
            share = Share(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
        except ValueError as error:
            raise ConfigError(f"RANK and WORLD_SIZE must be integers: {error}") from error
        if not 0 <= share.rank < share.count:
            raise ConfigError(f"RANK = {share.rank} must be in 0..{share.count - 1} (WORLD_SIZE - 1)")
        return share
