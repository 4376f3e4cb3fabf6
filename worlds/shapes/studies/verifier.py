"""Trains a verifier from files, as a user would.

    python -m edit_r1.worlds.shapes.studies.verifier [--out runs/verifier]

Writes traces and pairs from the training split of the world, runs `edit-r1 train-judge` on both, and measures the
pairwise accuracy of `verifier` on held-out edits: untrained, trained on traces, and then trained on pairs too. The
judge is the tiny one without its bundled adapter for this method. A tenth of the traces' verdicts are wrong, as with a
real teacher.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edit_r1.reward_service.types import Principle
from edit_r1.shared.images import encode
from edit_r1.shared.jsonl import write_rows
from edit_r1.workbench.markdown import table
from edit_r1.worlds.shapes.demo import HERE
from edit_r1.worlds.shapes.studies.edit_sets import (
    EditSet,
    agreement,
    corruption_set,
    editor_set,
    make_scorer,
    score_set,
)
from edit_r1.worlds.shapes.studies.preferences import write
from edit_r1.worlds.shapes.training.editor_model import load_family, oracle_scores, sample_edits
from edit_r1.worlds.shapes.training.judge_data import SEEN, Example, draw, draw_edit
from edit_r1.worlds.shapes.training.review_data import facts
from edit_r1.worlds.shapes.training.train_reviews import written_principles
from edit_r1.worlds.shapes.world.scenes import render, to_image
from edit_r1.worlds.shapes.world.tasks import sample_task

METHOD = "verifier"
WRONG_VERDICTS = 0.1


def write_traces(examples: Sequence[Example], out: Path, rng: np.random.Generator) -> Path:
    """Write images and verdicts on each of the judge's principles; returns the path of the list."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    principles = written_principles(HERE / "judge")
    path = out / "traces.jsonl"
    write_rows(path, (_trace(example, index, principles, out, rng) for index, example in enumerate(examples)))
    return path


def _trace(
    example: Example, index: int, principles: Sequence[Principle], out: Path, rng: np.random.Generator
) -> dict[str, Any]:
    files = [f"images/{index}-{name}.webp" for name in ("source", "edited")]
    for file, pixels in zip(files, (render(example.task.source), example.edited), strict=True):
        (out / file).write_bytes(encode(to_image(pixels)))
    true = facts(example)
    holds = [(true.of(one.category) > 0.5) != (rng.random() < WRONG_VERDICTS) for one in principles]
    return {
        "source": files[0],
        "edited": files[1],
        "instruction": example.task.instruction,
        "task": example.task.task,
        "answers": ["Yes" if one else "No" for one in holds],
    }


def damaged_drawings(num_tasks: int, group_size: int, rng: np.random.Generator) -> EditSet:
    """Groups of edits from the training split, both right and wrong, some damaged."""
    tasks = tuple(sample_task(rng, "train") for _ in range(num_tasks))
    drawn = [[draw_edit(rng, task, SEEN, 0.4, 0.6) for _ in range(group_size)] for task in tasks]
    edits = np.array([[edited for edited, _ in row] for row in drawn])
    return EditSet("drawings", tasks, edits, np.array([[oracle for _, oracle in row] for row in drawn]))


def editors_candidates(num_tasks: int, group_size: int, rng: np.random.Generator) -> EditSet:
    """Groups of edits from the training split, sampled by the committed editor."""
    tasks = tuple(sample_task(rng, "train") for _ in range(num_tasks))
    edits = sample_edits(load_family(HERE / "editor"), tasks, group_size, seed=22)
    return EditSet("candidates", tasks, edits, oracle_scores(tasks, edits))


async def accuracy(adapter: Path | None, sets: Sequence[EditSet]) -> list[float]:
    """Pairwise accuracy of `verifier` on each set, with an adapter or with the bare judge."""
    scorer = make_scorer(HERE / "judge", {} if adapter is None else {METHOD: adapter})
    return [agreement(await score_set(scorer, one, METHOD), one.oracle)["pairwise_accuracy"] for one in sets]


def main() -> int:
    """Write the training files, train and measure; prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/verifier"))
    parser.add_argument("--traces", type=int, default=1500)
    parser.add_argument("--pairs", type=int, default=400, help="number of groups of four edits, half of each kind")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--preference-steps", type=int, default=300)
    arguments = parser.parse_args()
    out, rng = arguments.out, np.random.default_rng(21)
    traces = write_traces([draw(rng, "train", SEEN) for _ in range(arguments.traces)], out / "traces", rng)
    half = arguments.pairs // 2
    pairs = write([damaged_drawings(half, 4, rng), editors_candidates(half, 4, rng)], out / "pairs")
    common = ["--judge", str(HERE / "judge"), "--method", METHOD]
    first = ["--traces", str(traces), "--out", str(out / "sft")]
    first += ["--steps", str(arguments.steps), "--learning-rate", "2e-3"]
    second = ["--pairs", str(pairs), "--start", str(out / "sft"), "--out", str(out / "gcpo")]
    second += ["--preference-steps", str(arguments.preference_steps), "--preference-learning-rate", "1e-3"]
    second += ["--preference-batch", "16"]
    for stage in (first, second):
        subprocess.run([sys.executable, "-m", "edit_r1", "train-judge", *common, *stage], stdout=sys.stderr, check=True)  # noqa: S603
    sets = [corruption_set(120, 6), editor_set(HERE / "editor", 60, 12)]
    adapters = {"untrained": None, "trained on traces": out / "sft", "trained on traces, then pairs": out / "gcpo"}
    rows = [
        (name, *(f"{value:.3f}" for value in asyncio.run(accuracy(adapter, sets))))
        for name, adapter in adapters.items()
    ]
    print(table((f"`{METHOD}`", *(one.name for one in sets)), rows))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
