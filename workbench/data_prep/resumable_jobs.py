"""Resumable outputs: turns items into lines, with a progress file next to the output.

A command killed at any point resumes after the last item whose lines are on disk and produces the same file as an
uninterrupted run, byte for byte: lines are flushed before the progress that counts them is written (atomically, by
renaming), and lines not counted by the progress are truncated. A command with other options or inputs is rejected.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from edit_r1.shared.errors import DataError
from edit_r1.shared.files import write_text

_CHECKPOINT_SECONDS = 0.2
T = TypeVar("T")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """Everything that determines an output."""

    command: str
    out: Path
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name -> digest of its content."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """All other settings the output depends on, as plain JSON."""
    restart: bool = False
    """Start over, ignoring existing output."""


@dataclass(frozen=True)
class Outcome:
    """Result of one item: lines to write, and a reason for each thing dropped."""

    lines: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


class Counts(BaseModel):
    """Counts of a command so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    read: int = 0
    written: int = 0
    dropped: dict[str, int] = {}

    def plus(self, outcome: Outcome) -> Counts:
        """The counts after one more item."""
        dropped = dict(Counter(self.dropped) + Counter(outcome.dropped)) if outcome.dropped else self.dropped
        return Counts(read=self.read + 1, written=self.written + len(outcome.lines), dropped=dropped)


class _Progress(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str
    inputs: dict[str, str]
    options: dict[str, Any]
    counts: Counts = Counts()
    num_bytes: int = 0
    finished: bool = False


class ResumableOutput:
    """An output file that grows item by item; a context manager.

    Raises DataError on entry when the file belongs to another job or another command is writing it.
    """

    def __init__(self, job: Job, say: Say, checkpoint_seconds: float = _CHECKPOINT_SECONDS) -> None:
        """checkpoint_seconds: maximum work lost when the command is killed."""
        self._job, self._say, self._checkpoint_seconds = job, say, checkpoint_seconds
        self._path = progress_path(job.out)
        self._saved_at = 0.0
        self._file: IO[bytes] | None = None
        self._progress = _begin(job)

    @property
    def counts(self) -> Counts:
        """Counts of all items, including earlier runs; `counts.read` is the position to resume at."""
        return self._progress.counts

    @property
    def finished(self) -> bool:
        """Whether the job is complete."""
        return self._progress.finished

    def __enter__(self) -> ResumableOutput:
        out = self._job.out
        out.parent.mkdir(parents=True, exist_ok=True)
        # Opened without truncating: contents are cut only once we hold the lock and know the progress.
        self._file = out.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._progress = self._found(out.stat().st_size) or self._progress
        except BlockingIOError as error:
            self._file.close()
            raise DataError(f"{out} is being written by another command") from error
        except DataError:
            self._file.close()
            raise
        self._file.truncate(self._progress.num_bytes)
        if self.counts.read and not self.finished:
            self._say(f"{self._job.out}: resuming after {self.counts.read} items")
        self._save()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._save()
        self._open_file.close()

    def add(self, outcome: Outcome) -> None:
        """Write the outcome of the next item."""
        data = "".join(f"{line}\n" for line in outcome.lines).encode()
        self._open_file.write(data)
        # A single assignment: on an interrupt the item is either counted with its bytes or not at all.
        self._progress = self._progress.model_copy(
            update={"counts": self.counts.plus(outcome), "num_bytes": self._progress.num_bytes + len(data)}
        )
        if time.monotonic() > self._saved_at + self._checkpoint_seconds:
            self._save()

    def finish(self) -> None:
        """Call when there are no more items."""
        self._progress = self._progress.model_copy(update={"finished": True})

    @property
    def _open_file(self) -> IO[bytes]:
        assert self._file is not None, "used outside its `with` block"  # noqa: S101
        return self._file

    def _save(self) -> None:
        self._open_file.flush()
        os.fsync(self._open_file.fileno())
        write_text(self._path, self._progress.model_dump_json(indent=1) + "\n")
        self._saved_at = time.monotonic()

    def _found(self, size: int) -> _Progress | None:
        """The progress to resume from; None when there is none. Raises DataError when it belongs to another job."""
        job = self._job
        if job.restart or (not size and not self._path.exists()):
            return None
        if not self._path.exists():
            raise DataError(f"{job.out} exists without a progress file; choose another --out, or pass --restart")
        try:
            progress = _Progress.model_validate_json(self._path.read_bytes())
        except ValidationError as error:
            raise DataError(f"{self._path} is unreadable; pass --restart to start over") from error
        change, lost = _first_change(progress, _begin(job)), size < progress.num_bytes
        if change and not (lost and not size):  # a deleted output imposes no constraint
            raise DataError(f"{job.out} was started {change}; rerun it as before, or pass --restart to start over")
        if progress.finished and size > progress.num_bytes:
            raise DataError(f"{job.out} was modified after it was finished; pass --restart to start over")
        if lost:
            self._say(f"{job.out} has {size} of {progress.num_bytes} bytes written before; starting over")
            return None
        return progress


def process(
    job: Job, items: Callable[[int], Iterable[T]], step: Callable[[T], Outcome], say: Say, advance: Callable[[int], Any]
) -> Counts:
    """Run a whole job: pass every item of `items(start)` through `step`, in order."""
    with ResumableOutput(job, say) as output:
        advance(output.counts.read)
        if not output.finished:
            for item in items(output.counts.read):
                output.add(step(item))
                advance(1)
            output.finish()
    return output.counts


async def process_in_order(
    job: Job,
    items: Callable[[int], Iterable[T]],
    step: Callable[[T], Awaitable[Outcome]],
    *,
    num_waiting: int,
    say: Say,
    advance: Callable[[int], Any],
) -> Counts:
    """Like `process` for an async step: up to `num_waiting` items are in flight; results are written in order.

    The first error ends it; everything before that item is written and counted.
    """
    waiting: deque[asyncio.Task[Outcome]] = deque()

    async def write_first() -> None:
        output.add(await waiting[0])
        waiting.popleft()
        advance(1)

    async def begin(item: T) -> Outcome:
        return await step(item)

    # Each item is expensive, so progress is saved after every one.
    with ResumableOutput(job, say, checkpoint_seconds=0.0) as output:
        advance(output.counts.read)
        if output.finished:
            return output.counts
        try:
            for item in items(output.counts.read):
                waiting.append(asyncio.create_task(begin(item)))
                if len(waiting) >= num_waiting:
                    await write_first()
            while waiting:
                await write_first()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        output.finish()
    return output.counts


def progress_path(out: Path) -> Path:
    """Path of an output's progress file."""
    return out.with_name(f"{out.name}.progress.json")


def rng_of(seed: int, text: str) -> random.Random:
    """Random generator for one line, seeded by its content, not its position."""
    return random.Random(f"{seed}/{text}")  # noqa: S311 - no secret


def _begin(job: Job) -> _Progress:
    return _Progress(command=job.command, inputs=dict(job.inputs), options=dict(job.options))


def _first_change(before: _Progress, now: _Progress) -> str | None:
    if before.command != now.command:
        return f"by the command {before.command}, now {now.command}"
    for name in sorted({*before.options, *now.options}):
        was, is_now = before.options.get(name), now.options.get(name)
        if was != is_now:
            return f"with {name}={was}, now {name}={is_now}"
    if set(before.inputs) != set(now.inputs):
        return f"from {', '.join(sorted(before.inputs))}, now from {', '.join(sorted(now.inputs))}"
    changed = [name for name, found in now.inputs.items() if before.inputs[name] != found]
    return f"from another version of {changed[0]}" if changed else None
