"""Orderly stops: SIGTERM, SIGUSR1 and Ctrl-C only leave a note, which the run reads between two pieces of work.

`Processes` reads the note and raises `Stopped` on all processes at the same point.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType

_HANDLED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Stopped(SystemExit):
    """A signal asked the run to stop. The process ends with 128 + its number, as shells report a death by that signal.

    Attributes:
        signal: the signal.

    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


class StopSignals:
    """The note: which signal has arrived."""

    def __init__(self) -> None:
        self.received = 0
        """Number of the first signal; 0 for none."""
        self._restore: list[Callable[[], object]] = []

    def listen(self) -> None:
        """Install the handlers; outside the main thread, where Python allows none, this does nothing."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _HANDLED:
            self._restore.append(partial(signal.signal, number, signal.signal(number, self._note)))

    def restore(self) -> None:
        """Put the previous handlers back."""
        while self._restore:
            self._restore.pop()()

    def _note(self, number: int, frame: FrameType | None) -> None:
        # Only Ctrl-C insists: launchers may deliver the other signals twice, and end with SIGKILL in any case.
        if number == signal.SIGINT and self.received:
            signal.default_int_handler(number, frame)
        self.received = self.received or number
