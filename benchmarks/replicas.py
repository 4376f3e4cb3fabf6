"""Measures whether a second replica helps if the first is limited by image preprocessing, like a fast GPU's front end.

    python -m benchmarks.replicas [--cases vllm-pinned vllm transformers] [--rounds 5]

vLLM preprocesses images in one thread per front-end process. Here the judge is small and sees large images at low
resolution (`--max-judge-pixels`), so that decoding, scaling and patching them is most of the work. Two services run all
the time; each round sends the same amount of fresh work to one of them and to both, in alternating order. If engine and
front end compete for the same few cores, like on a laptop, a second replica has nothing to run on: `vllm-pinned` gives
each service, front end and engine together, its own core, as if it were a separate machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support.judges import save_random_judge
from benchmarks.support.workload import ClientSettings, Workload, by_group
from edit_r1.shared.client import RewardClient
from edit_r1.workbench.markdown import table
from edit_r1.worlds.shapes.demo import free_port

LOGS = Path("runs/bench-services")
HEADINGS = ("services", "candidates/s: one", "two", "two / one")


@dataclass(frozen=True)
class Case:
    """A way to serve."""

    what: str
    engine: str
    pinned: bool
    """Whether each service has its own core."""


CASES: Mapping[str, Case] = {
    "vllm-pinned": Case("vLLM, one core each", "vllm", pinned=True),
    "vllm": Case("vLLM, sharing both cores", "vllm", pinned=False),
    "transformers": Case("transformers, sharing both cores", "transformers", pinned=False),
}


@contextmanager
def replica(model: Path, engine: str, max_judge_pixels: int, core: int | None) -> Iterator[str]:
    """Run a separate service, pinned to a core if given; yields its URL immediately, before it is ready."""
    port = free_port()
    settings = {"model": model, "engine": engine, "port": port, "max_judge_pixels": max_judge_pixels}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    LOGS.mkdir(parents=True, exist_ok=True)
    with (
        (LOGS / f"{port}.log").open("w") as log,
        subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "edit_r1", "serve", *flags], stdout=log, stderr=log
        ) as process,
    ):
        if core is not None:
            os.sched_setaffinity(process.pid, {core})  # before it starts threads or processes
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


async def all_ready(urls: Sequence[str]) -> None:
    """Return when all services have loaded their judges."""
    for url in urls:
        async with RewardClient(url) as client:
            await client.wait_ready(300)


async def measure(urls: Sequence[str], arguments: argparse.Namespace) -> dict[int, list[float]]:
    """Number of replicas -> candidates per second in each round."""
    await all_ready(urls)
    settings = ClientSettings("raw", arguments.in_flight)
    found: dict[int, list[float]] = {1: [], 2: []}
    seed = 0
    for number in range(arguments.rounds + 1):
        for count in (1, 2) if number % 2 else (2, 1):
            seed += 1
            work = Workload(arguments.groups if number else 4, arguments.group_size, arguments.side, seed)
            groups = list(work.groups())
            started = time.perf_counter()
            await by_group(urls[:count], groups, settings)
            rate = work.num_candidates / (time.perf_counter() - started)
            if number:
                found[count].append(rate)
                print(f"round {number} {count} replica(s) {rate:8.2f} candidates/s", file=sys.stderr)
    return found


def row(name: str, arguments: argparse.Namespace) -> tuple[str, ...]:
    """The row of one case, with columns as in HEADINGS."""
    case = CASES[name]
    cores = sorted(os.sched_getaffinity(0))[:2] if case.pinned else [None, None]
    with tempfile.TemporaryDirectory() as scratch:
        model = save_random_judge(Path(scratch), "small")
        with (
            replica(model, case.engine, arguments.max_judge_pixels, cores[0]) as one,
            replica(model, case.engine, arguments.max_judge_pixels, cores[1]) as two,
        ):
            found = asyncio.run(measure((one, two), arguments))
    ratios = [two / one for one, two in zip(found[1], found[2], strict=True)]
    rates = (f"{statistics.median(rates):.1f}" for rates in found.values())
    return (case.what, *rates, f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--groups", type=int, default=24)
    parser.add_argument("--group-size", type=int, default=6)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--max-judge-pixels", type=int, default=112 * 112)
    parser.add_argument("--in-flight", type=int, default=8)
    arguments = parser.parse_args()
    print(table(HEADINGS, [row(name, arguments) for name in arguments.cases]))


if __name__ == "__main__":
    main()
