"""The demo over several seeds: does training on the judge's reward alone raise the oracle's success?

    python -m benchmarks.demo_seeds [--seeds 0 1 2] [--out runs/bench-demo]

Runs `python -m edit_r1.worlds.shapes.demo` once per seed, one after another, each with its own reward service, and
prints the tables of BENCHMARKS.md and docs/studies.md. Exit status 1 if a run failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from edit_r1.trainer.records.records import Evaluation, read_evaluations
from edit_r1.workbench.markdown import table

HEADINGS = ("reward before", "after", "oracle success before", "after")


@dataclass(frozen=True)
class Demo:
    """One seed's run."""

    before: Evaluation
    after: Evaluation
    seconds: float

    @classmethod
    def read(cls, run_dir: Path) -> Demo:
        """The results of a finished run."""
        evaluations = [evaluation for _, evaluation in read_evaluations(run_dir)]
        seconds = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))["seconds"]
        return cls(evaluations[0], evaluations[-1], seconds)

    def figures(self, task: str | None = None) -> tuple[float, ...]:
        """Columns as in HEADINGS, over held-out tasks of one type or all. Raises ValueError without any reward."""
        moments = [one.means() if task is None else one.of_type(task).means() for one in (self.before, self.after)]
        found = [moment[name] for name in ("reward", "oracle_success") for moment in moments]
        if None in found:
            raise ValueError(f"no scores at all for the tasks {task or 'of this run'}")
        return tuple(one for one in found if one is not None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/bench-demo"))
    arguments = parser.parse_args()
    demos: dict[int, Demo] = {}
    for seed in arguments.seeds:
        run_dir = arguments.out / f"seed-{seed}"
        command = [sys.executable, "-m", "edit_r1.worlds.shapes.demo", f"run_dir={run_dir}", f"seed={seed}"]
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:  # noqa: S603 - our own command
            print(f"seed {seed} failed; see {run_dir}", file=sys.stderr)
            return 1
        demos[seed] = Demo.read(run_dir)
    print(f"{by_seed(demos)}\n\n{by_type(demos)}")
    return 0


def by_seed(demos: Mapping[int, Demo]) -> str:
    """One row per seed, and their mean."""
    rows = [(str(seed), *demo.figures(), demo.seconds) for seed, demo in demos.items()]
    if len(rows) > 1:
        rows.append(("mean", *(mean(column) for column in list(zip(*rows, strict=True))[1:])))
    shown = [(name, *map("{:.3f}".format, shares), f"{seconds:.0f}") for name, *shares, seconds in rows]
    return table(("seed", *HEADINGS, "seconds"), shown)


def by_type(demos: Mapping[int, Demo]) -> str:
    """One row per task type, with means over the seeds."""
    types = sorted({task.task or "" for demo in demos.values() for task in demo.before.tasks})
    rows = [
        (name, *(f"{mean(seeds):.3f}" for seeds in zip(*(demo.figures(name) for demo in demos.values()), strict=True)))
        for name in types
    ]
    return table(("task", *HEADINGS), rows)


if __name__ == "__main__":
    sys.exit(main())
