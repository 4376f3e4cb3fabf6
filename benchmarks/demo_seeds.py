"""The demo over several seeds: does training on the judge's reward alone raise the oracle's success?

    python -m benchmarks.demo_seeds [--seeds 0 1 2] [--out runs/bench-demo]

Runs `python -m worlds.shapes.demo` once a seed, one after another, each with its own reward service, and prints the
table of BENCHMARKS.md. Exit status 1 when a run failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/bench-demo"))
    arguments = parser.parse_args()
    summaries: dict[int, dict[str, Any]] = {}
    for seed in arguments.seeds:
        run_dir = arguments.out / f"seed-{seed}"
        command = [sys.executable, "-m", "worlds.shapes.demo", f"run_dir={run_dir}", f"seed={seed}"]
        if subprocess.run(command, check=False).returncode != 0:  # noqa: S603 - our own command
            print(f"seed {seed} failed; see {run_dir}", file=sys.stderr)
            return 1
        summaries[seed] = json.loads((run_dir / "summary.json").read_text())
    print(markdown(summaries))
    return 0


def markdown(summaries: dict[int, dict[str, Any]]) -> str:
    """The table: one row a seed, then the mean."""
    lines = [
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "",
        "| seed | reward before | after | oracle success before | after | change | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = [(str(seed), _figures(summary)) for seed, summary in summaries.items()]
    rows.append(("mean", [mean(column) for column in zip(*(figures for _, figures in rows), strict=True)]))
    for name, (*shares, seconds) in rows:
        lines.append(f"| {name} | " + " | ".join(f"{share:.3f}" for share in shares) + f" | {seconds:.0f} |")
    return "\n".join(lines)


def _figures(summary: dict[str, Any]) -> list[float]:
    before, after = summary["before"], summary["after"]
    gain = after["oracle_success"] - before["oracle_success"]
    return [
        before["reward"],
        after["reward"],
        before["oracle_success"],
        after["oracle_success"],
        gain,
        summary["seconds"],
    ]


if __name__ == "__main__":
    sys.exit(main())
