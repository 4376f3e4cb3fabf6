"""One command for a machine with one NVIDIA GPU: memory, speed and numbers at real size, in under 8 minutes.

    python -m benchmarks.gpu_check [--tiny] [--out gpu-check.json] [--only STEP ...] [--tflops 990]

Needs no network and no weights: all sizes are real, all weights random. Lists missing packages with the commands that
bring them. Every step has a time limit; the JSON file is written after each, so that a run that is cut off leaves what
it has. `--tiny` runs every step at a tiny size, on a CPU in about a minute. `--tflops` is the card's dense bfloat16
rate on its data sheet (H100, H200: 990), for utilisation. Prints the result as Markdown, for BENCHMARKS.md.
"""

from __future__ import annotations

import argparse
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.gpu_check import packages
from benchmarks.gpu_check.machine import machine
from benchmarks.gpu_check.report import markdown
from benchmarks.gpu_check.runner import run_steps
from benchmarks.gpu_check.steps import LIMITS, steps
from edit_r1.shared.files import write_json


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("gpu-check.json"))
    parser.add_argument(
        "--only", nargs="+", choices=LIMITS, default=list(LIMITS), metavar="STEP", help=", ".join(LIMITS)
    )
    parser.add_argument("--tflops", type=float, default=990.0)
    arguments = parser.parse_args()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if absent := packages.missing():
        write_json(arguments.out, {"date": now, "missing": absent, "commands": packages.commands(absent)})
        _tell(_what_to_bring(absent))
        return 2
    here = machine()
    if here["card"] is None and not arguments.tiny:
        _tell("no NVIDIA GPU found; on a CPU, only --tiny is possible")
        return 2
    head = {"date": now, "tiny": arguments.tiny, "data_sheet_tflops": arguments.tflops, "machine": here}
    chosen = steps(arguments.only, tiny=arguments.tiny, tflops=arguments.tflops)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that the running step is ended, too
    results = run_steps(chosen, head, arguments.out, _tell)
    print(markdown(results))
    return 0 if all(step["status"] == "done" for step in results["steps"].values()) else 1


def _what_to_bring(absent: list[str]) -> str:
    lines = [f"not installed: {', '.join(absent)}"]
    if large := [name for name in absent if name in packages.TOO_LARGE]:
        lines.append(f"{' and '.join(large)} with CUDA: gigabytes; choose a machine or an image that has them")
    if commands := packages.commands(absent):
        lines += ["where there is a network, and then here, from the root of the checkout:", *commands]
    return "\n".join(lines)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
