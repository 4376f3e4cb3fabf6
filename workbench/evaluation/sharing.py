"""Which of the processes that work on an evaluation we are. No torch here."""

from __future__ import annotations

import os
from dataclasses import dataclass

from edit_r1.shared.errors import ConfigError


@dataclass(frozen=True)
class Share:
    """Which part of the items is ours."""

    rank: int
    count: int

    @staticmethod
    def from_environment() -> Share:
        """By RANK and WORLD_SIZE, as accelerate launch, torchrun or a person sets them. Raises ConfigError."""
        try:
            share = Share(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
        except ValueError as error:
            raise ConfigError(f"RANK and WORLD_SIZE must be whole numbers: {error}") from error
        if not 0 <= share.rank < share.count:
            raise ConfigError(f"RANK = {share.rank} must be one of 0..{share.count - 1} (WORLD_SIZE - 1)")
        return share
