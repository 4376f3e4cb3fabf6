"""Measures how long processes take to read a long task list, and the memory each needs: as once read, and as now.

    python -m benchmarks.task_lists [--lines 1000000] [--processes 2]

Once, every process parsed and checked every line into a tuple of tasks. Now one process of a node does, into an Arrow
table; all map it. Each process is new, as in a run, and also draws 50 epochs of 24 tasks. Memory is what the reading
adds to the process, with the libraries imported for it: resident, which counts the mapped pages that it touched, and
private, which does not, as all processes share these.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from PIL import Image

from edit_r1.trainer.config import TrainConfig
from edit_r1.trainer.tasks.group_sampler import GroupSampler
from edit_r1.trainer.tasks.task_line import parse_line
from edit_r1.workbench.markdown import table

HEADINGS = ("read", "seconds", "MB added per process: resident", "private", "files looked at per process")
IMAGES, WORDS = 1000, "make the small car by the door red and keep everything else as it is"
GROUPS, EPOCHS = 24, 50


@dataclass(frozen=True)
class OldTask:
    """A task as every process once held it."""

    id: str
    instruction: str
    source_paths: tuple[Path, ...]
    requirement: str | None
    task: str | None
    metadata: Mapping[str, Any]


def read_once(path: Path) -> Sequence[Any]:
    """The list as it was once read."""
    tasks = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.strip():
            parsed = parse_line(line)
            paths = tuple(path.parent / name for name in parsed.names)
            assert all(one.is_file() for one in paths)
            tasks.append(OldTask(parsed.id, parsed.prompt, paths, parsed.requirement, parsed.task, parsed.metadata))
    return tuple(tasks)


def read_now(path: Path) -> Sequence[Any]:
    """The list as it is read now, with its summary."""
    from edit_r1.trainer.tasks.task_list import read_task_list  # noqa: PLC0415 - its libraries are measured too

    tasks = read_task_list(path)
    assert tasks.summary.num_tasks == len(tasks)
    return tasks


def measure(way: str, path: Path) -> None:
    """Read the list in this process and print what it took; the process ends when stdin does."""
    assert TrainConfig.model_fields  # imported before the measurement, as in a run
    files = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal files
        files += event == "open" and str(arguments[0]).endswith(".png")

    sys.addaudithook(count)
    stat = os.stat

    def counted(name: Any, *arguments: Any, **options: Any) -> os.stat_result:
        nonlocal files
        files += str(name).endswith(".png")
        return stat(name, *arguments, **options)

    process = psutil.Process()
    before, started = process.memory_full_info(), time.perf_counter()
    with patch.object(os, "stat", counted):
        tasks = {"once": read_once, "now": read_now}[way](path)
    seconds = time.perf_counter() - started
    sampler = GroupSampler(tasks, seed=0)
    drawn = [group.task.id for epoch in range(EPOCHS) for group in sampler.next_groups(epoch, GROUPS)]
    after = process.memory_full_info()
    added = {"resident": after.rss - before.rss, "private": after.uss - before.uss}
    print(json.dumps({"seconds": seconds, "files": files, "drawn": drawn} | added), flush=True)
    sys.stdin.read()


def together(way: str, path: Path, num_processes: int, cache: Path) -> list[dict[str, Any]]:
    """Measure new processes that read the list at the same time and then hold it."""
    command = [sys.executable, "-m", "benchmarks.task_lists", "--way", way, "--list", str(path)]
    running = [
        subprocess.Popen(  # noqa: S603 - our own command
            command,
            env=os.environ | {"HF_DATASETS_CACHE": str(cache), "LOCAL_RANK": str(rank)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(num_processes)
    ]
    found = [json.loads(one.stdout.readline()) for one in running if one.stdout is not None]
    for one in running:
        one.communicate()
    return found


def write_list(folder: Path, num_lines: int) -> Path:
    """A list of this many lines, on a thousand images."""
    for index in range(IMAGES):
        Image.new("RGB", (32, 32), (index % 256, index // 256, 0)).save(folder / f"{index}.png")
    path = folder / "tasks.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for index in range(num_lines):
            line = {"prompt": f"{WORDS} {index}", "image": f"{index % IMAGES}.png", "task": "adjust"}
            file.write(json.dumps(line) + "\n")
    return path


def row(label: str, results: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """One line of the table: the slowest process, and the largest."""
    return (
        label,
        f"{max(one['seconds'] for one in results):.1f}",
        *(" and ".join(f"{one[kind] / 1e6:,.0f}" for one in results) for kind in ("resident", "private")),
        " and ".join(f"{one['files']:,}" for one in results),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--way", choices=("once", "now"), help=argparse.SUPPRESS)
    parser.add_argument("--list", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        measure(arguments.way, arguments.list)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path, cache = write_list(Path(folder), arguments.lines), Path(folder) / "cache"
        cases = (("as once", "once"), ("now, first run", "now"), ("now, later runs", "now"))
        results = {label: together(way, path, arguments.processes, cache) for label, way in cases}
        size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    first, *others = (one["drawn"] for found in results.values() for one in found)
    assert all(drawn == first for drawn in others), "the ways draw different tasks"
    print(table(HEADINGS, [row(label, found) for label, found in results.items()]))
    print(
        f"\n{arguments.lines:,} lines, {arguments.processes} processes at once. The table in the cache takes "
        f"{size / 1e6:,.0f} MB of disk. All processes draw the same tasks."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
