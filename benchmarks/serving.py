"""Measures the cost of HTTP and the benefit of groups: the reward service versus its bare engine and other protocols.

    python -m benchmarks.serving [--engine vllm|transformers] [--pairs 5] [--codec raw] [--judge small]

One process runs one engine behind a real HTTP server; the client is a separate process. Each round runs, one after
another and on fresh images, the same 24 groups x 12 candidates
    direct       engine.generate on decoded images, everything at once: the lower bound
    group        POST /v1/score, one request per group (like `RewardClient`)
    candidate    POST /v1/score, one request per candidate
    reference    like released reward servers: JSON, one chat call per candidate, sequentially, each with its source;
                 as JPEG, which is cheap and changes the reward
    reference-png  the same, lossless
and prints throughput and CPU time (server, engine and client together) as medians of the rounds and of their ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import structlog
import uvicorn

from benchmarks.support.figures import stdout_for_figures
from benchmarks.support.judges import SIZES, save_random_judge
from benchmarks.support.reference import reference_app
from benchmarks.support.workload import ClientSettings, Workload, client_loop, direct_messages
from edit_r1.reward_service.app import create_app
from edit_r1.reward_service.service import Service
from edit_r1.reward_service.settings import Settings
from edit_r1.reward_service.types import SamplingSpec
from edit_r1.workbench import markdown

ARMS = ("direct", "group", "candidate", "reference", "reference-png")
HEADINGS = ("setup", "candidates/s", "CPU ms per candidate", "rate / direct", "CPU / direct", "speed-up of `group`")
LABELS = ("0", "1", "2", "3", "4", "5")


@dataclass(frozen=True)
class Run:
    """One run of one arm."""

    seconds: float
    cpu_seconds: float
    num_candidates: int

    @property
    def rate(self) -> float:
        """Candidates per second."""
        return self.num_candidates / self.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds per candidate, over all processes."""
        return 1e3 * self.cpu_seconds / self.num_candidates


class Bench:
    """The engine behind its server, and the client process."""

    def __init__(self, settings: Settings, client: ClientSettings) -> None:
        self._app = create_app(settings)
        self._service: Service = self._app.state.service
        # vLLM caches images by their content; servers on plain transformers process each one again.
        self._app.mount("/reference", reference_app(self._service, remembers=settings.engine == "vllm"))
        config = uvicorn.Config(self._app, port=0, log_config=None, access_log=False)
        self._server = uvicorn.Server(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self._wait_ready()
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self._pipe, other = multiprocessing.get_context("spawn").Pipe()
        self._client = multiprocessing.get_context("spawn").Process(
            target=client_loop, args=(other, f"http://127.0.0.1:{port}", client), daemon=True
        )
        self._client.start()

    def run(self, arm: str, work: Workload) -> Run:
        """Run one arm on one set of images; generating them is not timed."""
        if arm == "direct":
            messages = direct_messages(work)
            return self._timed(lambda: self._direct(messages), work)
        self._ask(("prepare", arm, work))
        return self._timed(lambda: self._ask(("run",)), work)

    def close(self) -> None:
        """Stop client and server."""
        self._pipe.send(("end",))
        self._client.join()
        self._server.should_exit = True
        self._thread.join()

    def _timed(self, call: Callable[[], object], work: Workload) -> Run:
        before, started = self._cpu_seconds(), time.perf_counter()
        call()
        seconds = time.perf_counter() - started
        return Run(seconds, self._cpu_seconds() - before, work.num_candidates)

    def _direct(self, messages: list[Any]) -> None:
        engine = self._service.engine
        assert engine is not None
        assert self._loop is not None

        async def ask_all() -> None:
            await asyncio.gather(*(engine.generate(one, SamplingSpec(labels=LABELS)) for one in messages))

        asyncio.run_coroutine_threadsafe(ask_all(), self._loop).result()

    def _ask(self, command: tuple[object, ...]) -> None:
        self._pipe.send(command)
        answer = self._pipe.recv()
        if answer != "done":
            raise RuntimeError(f"the client failed: {answer}")

    def _serve(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._server.serve())

    def _wait_ready(self) -> None:
        while not self._service.ready:
            if self._service.failure:
                raise RuntimeError(self._service.failure)
            time.sleep(0.1)

    def _cpu_seconds(self) -> float:
        here = psutil.Process()
        times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
        return sum(float(one.user + one.system) for one in times)


def measure(bench: Bench, arguments: argparse.Namespace) -> dict[str, list[Run]]:
    """Arm -> its runs, one per round, after a warm-up."""
    seed = 0
    found: dict[str, list[Run]] = {arm: [] for arm in arguments.arms}
    for number in range(arguments.pairs + 1):
        # Rotate the order between rounds, as the first arm may find a cooler machine.
        order = arguments.arms[number % len(arguments.arms) :] + arguments.arms[: number % len(arguments.arms)]
        for arm in order:
            seed += 1
            groups = arguments.groups if number else 2
            run = bench.run(arm, Workload(groups, arguments.group_size, arguments.side, seed))
            if number:
                found[arm].append(run)
                print(f"round {number} {arm:13} {run.rate:8.2f} candidates/s {run.cpu_ms:8.2f} ms CPU", file=sys.stderr)
    return found


def table(found: dict[str, list[Run]]) -> str:
    """Table of median rates and CPU times, and of the medians of per-round ratios to `direct` and `group`."""
    rows = []
    for arm, runs in found.items():
        rate, cpu = (_median(getattr(run, name) for run in runs) for name in ("rate", "cpu_ms"))
        to_direct = _ratio(runs, found.get("direct"), "rate")
        cpu_to_direct = _ratio(runs, found.get("direct"), "cpu_ms")
        of_group = _ratio(found["group"], runs, "rate") if "group" in found else "-"
        rows.append((arm, f"{rate:.1f}", f"{cpu:.1f}", to_direct, cpu_to_direct, of_group))
    return markdown.table(HEADINGS, rows)


def _ratio(runs: list[Run], base: list[Run] | None, name: str) -> str:
    if base is None:
        return "-"
    return f"{_median(getattr(a, name) / getattr(b, name) for a, b in zip(runs, base, strict=True)):.2f}"


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["vllm", "transformers"], default="vllm")
    parser.add_argument("--judge", choices=SIZES, default="small")
    parser.add_argument("--model", type=Path, help="checkpoint directory to use instead of a random judge")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--groups", type=int, default=24)
    parser.add_argument("--group-size", type=int, default=12)
    parser.add_argument("--side", type=int, default=448)
    parser.add_argument("--codec", choices=["raw", "webp"], default="raw")
    parser.add_argument("--in-flight", type=int, default=16, help="maximum number of concurrent requests")
    parser.add_argument("--max-batch", type=int, default=32)
    arguments = parser.parse_args()
    # Silence the log line per request.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with stdout_for_figures() as stdout, tempfile.TemporaryDirectory() as scratch:
        model = arguments.model or save_random_judge(Path(scratch), arguments.judge)
        settings = Settings(
            model=str(model), engine=arguments.engine, max_batch=arguments.max_batch, max_model_len=4096
        )
        bench = Bench(settings, ClientSettings(arguments.codec, arguments.in_flight))
        try:
            found = measure(bench, arguments)
        finally:
            bench.close()
        print(table(found), file=stdout)


if __name__ == "__main__":
    main()
