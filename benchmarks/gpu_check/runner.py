"""Runs steps one after another, each a process with a time limit, and writes the results after every step.

A step's process appends its figures, one JSON object per line, to the file named as its last argument. What it has
written counts even if it is cut off or fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edit_r1.shared.files import write_json

_TAIL_LINES = 15


@dataclass(frozen=True)
class Step:
    """A process that measures something."""

    name: str
    command: tuple[str, ...]
    """The file for the figures is added at its end."""
    limit_seconds: float


def run_steps(steps: Sequence[Step], head: dict[str, Any], out: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """Run all steps; returns what is in `out` at the end: `head`, and `steps` by name.

    A step's status is `done`, `cut off` (its limit was reached) or `failed`; those that have not run are missing.
    """
    results: dict[str, Any] = {**head, "steps": {}}
    write_json(out, results)
    for step in steps:
        tell(f"{step.name}: at most {step.limit_seconds:.0f} s")
        results["steps"][step.name] = result = _run(step)
        write_json(out, results)
        tell(f"{step.name}: {result['status']} after {result['seconds']:.0f} s")
    return results


def _run(step: Step) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        rows, log = Path(folder) / "rows.jsonl", Path(folder) / "log"
        rows.touch()
        started = time.monotonic()
        status = _ended([*step.command, str(rows)], log, step.limit_seconds)
        result = {
            "status": status,
            "seconds": round(time.monotonic() - started, 1),
            "limit_seconds": step.limit_seconds,
            "figures": _figures(rows),
        }
        if status != "done":
            result["log"] = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        return result


def _ended(command: Sequence[str], log: Path, limit_seconds: float) -> str:
    """Run a command to its end or its limit, with everything that it started; returns the status."""
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)  # noqa: S603 - our own
        try:
            return "failed" if process.wait(limit_seconds) else "done"
        except subprocess.TimeoutExpired:
            return "cut off"
        finally:
            # Its session is its own: this also ends servers that it started and left behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _figures(rows: Path) -> dict[str, Any]:
    """The figures by name; a last line that was cut off is left out."""
    lines = rows.read_text(encoding="utf-8").splitlines(keepends=True)
    return {name: value for line in lines if line.endswith("\n") for name, value in json.loads(line).items()}
