"""Remembers for a while that a server answers nobody, so that the service is not ready and asks for no more."""

from __future__ import annotations

import time

from edit_r1.shared.errors import EngineUnavailableError

_PAUSE_SECONDS = 30.0


class Trouble:
    """The last error that concerned all requests."""

    def __init__(self) -> None:
        self._error: EngineUnavailableError | None = None
        self._ends = 0.0

    @property
    def error(self) -> EngineUnavailableError | None:
        """The error during the pause after it; then None, so that the next request tries again."""
        return self._error if time.monotonic() < self._ends else None

    def begin(self, error: EngineUnavailableError) -> EngineUnavailableError:
        """Remember the error; returns it."""
        self._error, self._ends = error, time.monotonic() + _PAUSE_SECONDS
        return error

    def end(self) -> None:
        """Something was answered."""
        self._error = None
