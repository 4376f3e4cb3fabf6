"""Compares every method with preference data of the shapes world, where the oracle is the annotator: `make align`.

    python -m edit_r1.worlds.shapes.studies.preferences [--tasks 60] [--out runs/align]

Writes held-out edits of two kinds, damaged drawings and samples of the committed editor, to OUT/data in the format of
`edit-r1 align`; then starts the tiny judge and compares the methods that it has learned with `edit-r1 align`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from edit_r1.shared.images import encode
from edit_r1.shared.jsonl import write_rows
from edit_r1.shared.preferences import QualityLabel
from edit_r1.worlds.shapes.demo import HERE, reward_service
from edit_r1.worlds.shapes.studies.edit_sets import EditSet, corruption_set, editor_set
from edit_r1.worlds.shapes.studies.judge_table import ALONE
from edit_r1.worlds.shapes.world.oracle import SUCCESS_THRESHOLD
from edit_r1.worlds.shapes.world.scenes import render, to_image

LIST_NAME = "preferences.jsonl"
TIE_MARGIN = 0.1
"""Difference in oracle score that an annotator would not notice."""
BAD_BELOW = 0.4


def write(sets: Sequence[EditSet], out: Path) -> Path:
    """Write images and the preference list; returns the path of the list."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    path = out / LIST_NAME
    write_rows(path, (line for number, one in enumerate(sets) for line in _lines(one, number, out)))
    return path


def _lines(edit_set: EditSet, number: int, out: Path) -> Iterator[dict[str, Any]]:
    for index, (task, edits, oracle) in enumerate(zip(edit_set.tasks, edit_set.edits, edit_set.oracle, strict=True)):
        name = f"{number}-{index}"
        pictures = [render(task.source), *edits]
        files = [f"images/{name}-{i}.webp" for i in range(len(pictures))]
        for file, pixels in zip(files, pictures, strict=True):
            (out / file).write_bytes(encode(to_image(pixels)))
        yield {
            "id": name,
            "source": files[0],
            "instruction": task.instruction,
            "task": task.task,
            "edits": files[1:],
            "pairs": [
                {"first": i, "second": j, "votes": _vote(oracle[i] - oracle[j])}
                for i, j in combinations(range(len(edits)), 2)
            ],
            "ratings": [
                {"edit": i, "scores": [1 + 4 * float(value)], "labels": _label(value)} for i, value in enumerate(oracle)
            ],
        }


def _vote(difference: float) -> str:
    return "tie" if abs(difference) < TIE_MARGIN else "first" if difference > 0 else "second"


def _label(oracle: float) -> QualityLabel:
    return "Good" if oracle >= SUCCESS_THRESHOLD else "Bad" if oracle < BAD_BELOW else "Indistinguishable"


def main() -> int:
    """Write the data, start the judge and compare; returns the exit status of `edit-r1 align`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=60, help="number of tasks per kind of edits, with four edits each")
    parser.add_argument("--out", type=Path, default=Path("runs/align"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    data = write(
        [corruption_set(arguments.tasks, 4), editor_set(HERE / "editor", arguments.tasks, 4)], arguments.out / "data"
    )
    with reward_service(arguments.out / "service.log", HERE / "judge") as url:
        command = [sys.executable, "-m", "edit_r1", "align", str(data), "--url", url, "--out", str(arguments.out)]
        command += ["--methods", ",".join(ALONE)]
        return subprocess.run(command, check=False).returncode  # noqa: S603 - our own command


if __name__ == "__main__":
    sys.exit(main())
