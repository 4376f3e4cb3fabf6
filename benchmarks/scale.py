"""Measures how time and memory scale with groups, candidates, processes and replicas on this machine.

    python -m benchmarks.scale [--epochs 4] [--out runs/bench-scale]

Trainer: the demo's training at several sizes, each a separate run of `edit-r1 train` (`accelerate launch` for two
processes) with one reward service; seconds are the median over epochs after the first, memory is the peak of the
largest process. Service: the faster of two rounds with fresh images, an untrained judge of Qwen2.5-VL's geometry and
the transformers engine; each replica has its own core. The exponent is the slope of log seconds over log size: 1 is
linear, less is better. Prints the table of BENCHMARKS.md and writes its figure to docs/images/scale.svg.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import psutil

from benchmarks.replicas import all_ready, replica
from benchmarks.support.judges import save_random_judge
from benchmarks.support.workload import ClientSettings, Workload, by_group
from edit_r1.trainer.records.metrics_log import read_metrics
from edit_r1.trainer.report.charts import Series, line_chart, standalone
from edit_r1.workbench.markdown import table
from edit_r1.worlds.shapes.demo import HERE, reward_service

CONFIG = HERE / "nft.yaml"
PICTURE = Path("docs/images/scale.svg")
BARE = ("data.held_out=null", "checkpoint.every=0", "filter.rule=none")
SIZES = (4, 8, 16)
HEADINGS = ("dimension", "size", "seconds: first", "last", "exponent", "MB: first", "last", "MB per unit")
SEND = ClientSettings("raw", in_flight=8)


@dataclass(frozen=True)
class Point:
    """The measurement at one size."""

    size: int
    seconds: float
    megabytes: float
    """Peak resident memory of the process under test."""


@dataclass(frozen=True)
class Sweep:
    """Measurements with one size varied and all others fixed."""

    what: str
    points: tuple[Point, ...]

    @property
    def exponent(self) -> float:
        """Exponent b of the least-squares fit seconds = a size^b."""
        size, seconds = np.log([[point.size, point.seconds] for point in self.points]).T
        return float(np.polyfit(size, seconds, 1)[0])

    def row(self) -> tuple[str, ...]:
        """Row of the table, with columns as in HEADINGS."""
        first, last = self.points[0], self.points[-1]
        per_size = (last.megabytes - first.megabytes) / (last.size - first.size)
        return (
            self.what,
            f"{first.size} to {last.size}",
            f"{first.seconds:.2f}",
            f"{last.seconds:.2f}",
            f"{self.exponent:.2f}",
            f"{first.megabytes:.0f}",
            f"{last.megabytes:.0f}",
            f"{per_size:.1f}",
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-scale"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    sweeps = [*trainer_sweeps(arguments.out / str(os.getpid()), arguments.epochs), *service_sweeps(arguments.out)]
    print(table(HEADINGS, [sweep.row() for sweep in sweeps]))
    PICTURE.write_text(standalone(picture(sweeps), "seconds against size, relative to the smallest"), encoding="utf-8")
    print(PICTURE, file=sys.stderr)
    return 0


def trainer_sweeps(out: Path, epochs: int) -> Iterator[Sweep]:
    """Seconds per epoch and the trainer's memory."""
    out.mkdir()
    with reward_service(out / "service.log", HERE / "judge") as url:

        def run(name: str, *overrides: str, processes: int = 1) -> tuple[float, float]:
            settings = (f"reward.url={url}", f"epochs={epochs}", f"run_dir={out / name}", *BARE, *overrides)
            single, several = (
                ("edit_r1", "train"),
                ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
            )
            launch = single if processes == 1 else (*several, "-m", "edit_r1.trainer")
            command = [sys.executable, "-m", *launch, str(CONFIG), *settings]
            megabytes = peak_megabytes(command, out / f"{name}.log")
            return median(line["time/epoch_seconds"] for line in read_metrics(out / name)[1:]), megabytes

        by_groups = tuple(Point(size, *run(f"groups-{size}", f"groups_per_epoch={size}")) for size in SIZES)
        yield Sweep("groups per epoch (12 candidates each)", by_groups)
        yield Sweep(
            "candidates per group (8 groups)",
            tuple(
                Point(size, *run(f"candidates-{size}", "groups_per_epoch=8", f"group_size={size}")) for size in SIZES
            ),
        )
        most = by_groups[-1]
        both = Point(2, *run("processes-2", f"groups_per_epoch={most.size}", processes=2))
        yield Sweep(f"processes ({most.size} groups in total)", (Point(1, most.seconds, most.megabytes), both))


def service_sweeps(out: Path) -> Iterator[Sweep]:
    """Seconds to score and the service's memory."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    with ExitStack() as stack:
        model = save_random_judge(out, "small")
        urls = [stack.enter_context(replica(model, "transformers", 224 * 224, core)) for core in cores]
        asyncio.run(all_ready(urls))
        seed = iter(range(1, 1000))

        def score(groups: int, candidates: int, count: int = 1) -> tuple[float, float]:
            times = []
            for _ in range(2):
                work = list(Workload(groups, candidates, 224, next(seed)).groups())
                started = time.perf_counter()
                asyncio.run(by_group(urls[:count], work, SEND))
                times.append(time.perf_counter() - started)
            return min(times), service_megabytes(urls[0])

        score(4, 4, 2)  # first requests are slower
        yield Sweep("groups, service (4 candidates each)", tuple(Point(size, *score(size, 4)) for size in SIZES))
        yield Sweep("candidates, service (one group)", tuple(Point(size, *score(1, size)) for size in SIZES))
        yield Sweep("replicas (16 groups in total)", tuple(Point(size, *score(16, 4, size)) for size in (1, 2)))


def peak_megabytes(command: Sequence[str], log: Path) -> float:
    """Run a command; returns the largest resident memory of it and its children. Raises RuntimeError if it fails."""
    with log.open("w") as stream, subprocess.Popen(command, stdout=stream, stderr=stream) as process:  # noqa: S603
        largest = 0
        while process.poll() is None:
            try:
                family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
                largest = max(largest, *(one.memory_info().rss for one in family))
            except psutil.NoSuchProcess:
                pass
            time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with status {process.returncode}; see {log}")
    return largest / 1e6


def service_megabytes(url: str) -> float:
    """Resident memory of the process that listens at the URL."""
    port = int(url.rpartition(":")[2])
    listening = [one for one in psutil.net_connections("tcp4") if one.status == psutil.CONN_LISTEN]
    listener = next(one.pid for one in listening if tuple(one.laddr)[1:] == (port,))
    return float(psutil.Process(listener).memory_info().rss / 1e6)


def picture(sweeps: Sequence[Sweep]) -> str:
    """Chart of time against size, both relative to the smallest; sweeps with two points are only in the table."""
    drawn = [
        Series(
            sweep.what.partition(" (")[0],
            tuple(
                (point.size / sweep.points[0].size, point.seconds / sweep.points[0].seconds) for point in sweep.points
            ),
            marked=True,
        )
        for sweep in sweeps
        if len(sweep.points) > 2
    ]
    ratios = [point[0] for point in drawn[0].points]
    return line_chart([*drawn, Series("linear", tuple((ratio, ratio) for ratio in ratios))], "size")


if __name__ == "__main__":
    sys.exit(main())
