"""Progress output of a run: bars on a terminal, plain lines everywhere, nothing outside the main process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Bar(Protocol):
    """Callable that advances a progress bar."""

    def __call__(self, amount: int = 1) -> None:
        """Advance by `amount`."""


class Display:
    """Lines and bars on standard error."""

    def __init__(self, *, visible: bool) -> None:
        self._console = Console(stderr=True, quiet=not visible, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not (visible and self._console.is_terminal),
        )

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(line, markup=False, soft_wrap=True)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Animate the bars inside the block."""
        with self._progress:
            yield

    @contextmanager
    def bar(self, name: str, total: int, done: int = 0) -> Iterator[Bar]:
        """A bar shown while the block runs."""
        task: TaskID = self._progress.add_task(name, total=total, completed=done)

        def advance(amount: int = 1) -> None:
            self._progress.advance(task, amount)

        try:
            yield advance
        finally:
            self._progress.remove_task(task)
