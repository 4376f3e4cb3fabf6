"""Run benchmarks and insert their figures into the documents.

    python -m benchmarks [NAME ...]     # default: all in BENCHMARKS.md, under 30 minutes on 2 cores

Each benchmark is a separate program that prints Markdown to stdout and progress to stderr. Its output replaces its
block in BENCHMARKS.md (or in the pages named below) as soon as it is done, so that nothing is lost if a later one
fails; the exit status is then 1. Benchmarks that measure time run alone; the others run afterwards, one per core.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from threading import Lock

import psutil
from rich.console import Console

from benchmarks.support.figures import replaced
from edit_r1.worlds.shapes.studies.judge_table import ALONE

BENCHMARKS_PAGE, STUDIES_PAGE, METHODS_PAGE = (
    Path("BENCHMARKS.md"),
    Path("docs/studies.md"),
    Path("docs/choose-a-method.md"),
)
DEMO_RUNS = "runs/bench-demo"
QUICK_METHODS = tuple(name for name in ALONE if name not in ("verifier_cot", "editscore"))
"""Methods in the judge's table; the others write long answers, and are measured by `alignment`."""
MACHINE = "machine"
"""The block that describes the machine of the measurements."""


@dataclass(frozen=True)
class Benchmark:
    """A program whose stdout is Markdown."""

    command: tuple[str, ...]
    """Arguments after `python -m`."""
    alone: bool = True
    """Whether it measures time and must run alone."""
    all_cores: bool = False
    """Whether its engine may use one thread per core; otherwise OMP_NUM_THREADS applies (make: one per process)."""
    pages: tuple[Path, ...] = (BENCHMARKS_PAGE,)
    """Pages with its figures."""


BENCHMARKS: Mapping[str, Benchmark] = {
    "demo": Benchmark(("benchmarks.demo_seeds", "--seeds", "0", "--out", DEMO_RUNS)),
    "trainer": Benchmark(("benchmarks.trainer", "--epochs", "4")),
    "full-tuning-memory": Benchmark(("benchmarks.full_tuning_memory",)),
    "vae-memory": Benchmark(("benchmarks.vae_memory",), alone=False),
    "serving": Benchmark(("benchmarks.serving", "--groups", "8", "--pairs", "2"), all_cores=True),
    "serving-transformers": Benchmark(
        ("benchmarks.serving", "--engine", "transformers", "--groups", "4", "--pairs", "2"), pages=(STUDIES_PAGE,)
    ),
    "replicas": Benchmark(
        ("benchmarks.replicas", "--cases", "vllm-pinned", "transformers", "--groups", "8", "--rounds", "3")
    ),
    "codecs": Benchmark(("benchmarks.codecs",)),
    "task-lists": Benchmark(("benchmarks.task_lists",)),
    "scale": Benchmark(("benchmarks.scale", "--epochs", "3")),
    "floor": Benchmark(("benchmarks.floor",)),
    "alignment": Benchmark(("benchmarks.alignment",), pages=(BENCHMARKS_PAGE, METHODS_PAGE)),
    "judge": Benchmark(("edit_r1.worlds.shapes.studies.judge_table", "--methods", *QUICK_METHODS), alone=False),
    "best-of-n": Benchmark(("benchmarks.best_of_n", "--run", f"{DEMO_RUNS}/seed-0"), alone=False),
    "verifier": Benchmark(("edit_r1.worlds.shapes.studies.verifier",), alone=False, pages=(STUDIES_PAGE,)),
    "demo-seeds": Benchmark(("benchmarks.demo_seeds",), pages=(STUDIES_PAGE,)),
    "ablation": Benchmark(("benchmarks.shapes_ablation",), pages=(STUDIES_PAGE,)),
}
console = Console(stderr=True)
_writing = Lock()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {unknown[0]!r}; available: {', '.join(BENCHMARKS)}")
    every = [name for name, benchmark in BENCHMARKS.items() if BENCHMARKS_PAGE in benchmark.pages]
    chosen = arguments.names or every
    # A run of all benchmarks describes its machine once; other runs add it to each figure if it differs.
    here = machine()
    where = f" on {here}" if arguments.names and here not in BENCHMARKS_PAGE.read_text(encoding="utf-8") else ""
    started = time.monotonic()
    ended_well = {name: run(name, where) for name in chosen if BENCHMARKS[name].alone}
    others = [name for name in chosen if not BENCHMARKS[name].alone]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as cores:
        ended_well |= dict(zip(others, cores.map(partial(run, where=where), others), strict=True))
    seconds = f"{time.monotonic() - started:.0f} s"
    console.print(f"all: {seconds}", highlight=False)
    if failed := [name for name, well in ended_well.items() if not well]:
        console.print(
            f"failed: {', '.join(failed)}; their figures and the machine's line were not updated", style="red"
        )
        return 1
    if not arguments.names:
        write(BENCHMARKS_PAGE, MACHINE, f"{here} Total time, in a single run: {seconds}.")
    return 0


def run(name: str, where: str) -> bool:
    """Run a benchmark and write its figures, duration and, if not empty, machine; returns whether it succeeded."""
    benchmark = BENCHMARKS[name]
    console.rule(f"{name}: python -m {' '.join(benchmark.command)}")
    threads = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY") if benchmark.all_cores else ()
    environment = {name: value for name, value in os.environ.items() if name not in threads}
    started = time.monotonic()
    ended = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", *benchmark.command], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    seconds = time.monotonic() - started
    if ended.returncode:
        console.print(f"{name} failed after {seconds:.0f} s with status {ended.returncode}", style="red")
        return False
    for page in benchmark.pages:
        write(page, name, f"{ended.stdout.strip()}\n\n*{datetime.now(UTC).date()}, in {seconds:.0f} s{where}*")
    console.print(f"{name}: {seconds:.0f} s", highlight=False)
    return True


def write(page: Path, name: str, figures: str) -> None:
    """Insert figures into their block. Raises ValueError if the page has no such block."""
    with _writing:
        page.write_text(replaced(page.read_text(encoding="utf-8"), name, figures), encoding="utf-8")


def machine() -> str:
    """Hardware and software of this machine."""
    here = f"{len(os.sched_getaffinity(0))} cores of {_processor()}, {psutil.virtual_memory().total / 2**30:.0f} GB"
    software = ", ".join(f"{name} {_version(name)}" for name in ("torch", "transformers", "diffusers", "vllm"))
    return f"{here}; {platform.system()}, Python {platform.python_version()}, {software}."


def _processor() -> str:
    names: Sequence[str] = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return metadata.version(f"{name}-cpu")


if __name__ == "__main__":
    sys.exit(main())
