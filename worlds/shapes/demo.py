"""`make demo`: runs reward service and trainer on this machine, from an untrained policy to a report.

    python -m edit_r1.worlds.shapes.demo [dotted.key=value ...]      # trainer keys, e.g. seed=1 run_dir=runs/x

Starts the reward service with the tiny judge on a free port, waits until it is ready, runs `edit-r1 train` against its
URL, and stops it. Both run as the commands a user would type; the service's log is in the run directory.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edit_r1.shared.client import RewardClient
from edit_r1.shared.errors import EditR1Error, RewardServiceUnavailable

HERE = Path(__file__).resolve().parent
READY_LIMIT_SECONDS = 120.0
_LOG_TAIL_LINES = 20
console = Console(stderr=True)


def main(overrides: Sequence[str]) -> int:
    """Run the demo; returns the exit status."""
    run_dir = _run_dir(overrides)
    try:
        _set_aside(run_dir)
        run_dir.mkdir(parents=True)
        with reward_service(run_dir / "service.log", HERE / "judge") as url:
            command = _edit_r1("train", HERE / "nft.yaml", f"reward.url={url}", f"run_dir={run_dir}", *overrides)
            status = subprocess.run(command, check=False).returncode  # noqa: S603 - our own command
    except EditR1Error as error:
        console.print(f"demo: {error}", style="red", markup=False)
        return 1
    if status == 0:
        _print_summary(json.loads((run_dir / "summary.json").read_text()))
    return status


def _run_dir(overrides: Sequence[str]) -> Path:
    given = [text.partition("=")[2] for text in overrides if text.startswith("run_dir=")]
    return Path(given[-1] if given else "runs/demo")


def _set_aside(run_dir: Path) -> None:
    """Rename the directory of an earlier run: a demo always starts from scratch and never deletes results."""
    if run_dir.exists():
        stamp = datetime.fromtimestamp(run_dir.stat().st_mtime, tz=UTC).strftime("%Y%m%d-%H%M%S")
        kept = run_dir.with_name(f"{run_dir.name}-{stamp}")
        run_dir.rename(kept)
        console.print(f"moved the earlier run to {kept}")


@contextmanager
def reward_service(log: Path, judge: Path) -> Iterator[str]:
    """Run a reward service with a judge's checkpoint on a free port; yields its URL once ready and stops it on exit."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with log.open("w") as stream:
        command = _edit_r1("serve", "--model", judge, "--engine", "transformers", "--port", port)
        service = subprocess.Popen(command, stdout=stream, stderr=stream)  # noqa: S603 - our own command
        try:
            with console.status(f"starting the reward service at {url} (log: {log})"):
                asyncio.run(_until_ready(url, service, log))
            console.print(f"reward service ready at {url}")
            yield url
        finally:
            service.terminate()
            service.wait(timeout=30)


async def _until_ready(url: str, service: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the service is ready; raise with the end of its log if it exits or is not ready in time."""
    started = time.monotonic()
    async with RewardClient(url) as client:
        while True:
            try:
                await client.wait_ready(1.0)
            except RewardServiceUnavailable:
                if service.poll() is None and time.monotonic() - started < READY_LIMIT_SECONDS:
                    continue
                tail = "\n".join(log.read_text().splitlines()[-_LOG_TAIL_LINES:])
                raise RewardServiceUnavailable(
                    f"the reward service did not become ready; the end of {log}:\n{tail}"
                ) from None
            return


def _print_summary(summary: dict[str, Any]) -> None:
    table = Table(title="held-out tasks, before and after training on the judge's reward alone")
    for heading in ("", "before", "after", "change"):
        table.add_column(heading, justify="left" if not heading else "right")
    before, after = summary["before"], summary["after"]
    for name in before:
        change = after[name] - before[name]
        table.add_row(name.replace("_", " "), f"{before[name]:.3f}", f"{after[name]:.3f}", f"{change:+.3f}")
    results = Console()
    results.print(table)
    results.print(f"{summary['seconds']:.0f} s; report: {summary['report']}", soft_wrap=True)


def _edit_r1(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edit_r1", *map(str, arguments)]


def free_port() -> int:
    """A free local TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
