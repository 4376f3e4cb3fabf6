"""Best of N on shapes: how often the judge's choice among N edits is right, for the editor before and after training.

    python -m benchmarks.best_of_n --run runs/demo [--tasks 128] [--out docs/images/best-of-n.svg]

Each held-out task is edited 16 times like in a rollout, by the run's editor before and after training; every method
scores all edits. Success at N is the success of the highest-scoring edit among N (averaged over ties), as a mean over
all subsets of N out of the 16, so that the tasks are the only source of sampling noise. `oracle` chooses by the oracle
itself, which no judge can beat; at N = 1, all rows show the editor alone. Dashed lines in the figure: before training.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from math import comb
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from edit_r1.trainer.models.flux_kontext import FluxKontext
from edit_r1.trainer.report.charts import Series, line_chart, standalone
from edit_r1.workbench.editing.editor import Editor, find_weights, run_config
from edit_r1.workbench.markdown import table
from edit_r1.worlds.shapes.demo import HERE
from edit_r1.worlds.shapes.studies.edit_sets import EditSet, make_scorer, score_set
from edit_r1.worlds.shapes.training.editor_model import oracle_scores, sample_edits
from edit_r1.worlds.shapes.world.oracle import SUCCESS_THRESHOLD
from edit_r1.worlds.shapes.world.tasks import sample_task

Floats = npt.NDArray[np.float64]
POOL = 16
SIZES = (1, 2, 4, 8, 16)
METHODS = ("score_logit", "score_sampling", "verifier")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--run", type=Path, required=True, help="run directory of `make demo` or another training on shapes"
    )
    parser.add_argument("--tasks", type=int, default=128)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--out", type=Path, default=Path("docs/images/best-of-n.svg"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    curves: dict[tuple[str, str], list[float]] = {}
    for when, weights in (("before", None), ("after", find_weights(arguments.run, "ema", None))):
        edits = pool(Editor(run_config(arguments.run), weights), arguments.tasks)
        success = (edits.oracle >= SUCCESS_THRESHOLD).astype(float)
        chosen_by = asyncio.run(score_all(edits, arguments.methods))
        for name, scores in {**chosen_by, "oracle": edits.oracle}.items():
            curves[name, when] = [best_of(scores, success, size) for size in SIZES]
    rows = [(f"`{name}`, {when}", *(f"{value:.3f}" for value in values)) for (name, when), values in curves.items()]
    print(table(("chosen by", *(f"N = {size}" for size in SIZES)), rows))
    judges = [*arguments.methods, "oracle"]
    series = [
        Series(
            f"{name}, {when}",
            tuple(zip(map(float, SIZES), values, strict=True)),
            marked=True,
            color=judges.index(name),
            dashed=when == "before",
        )
        for (name, when), values in curves.items()
    ]
    chart = standalone(line_chart(series, "N"), "oracle success of the chosen edit")
    arguments.out.write_text(chart, encoding="utf-8")
    print(arguments.out, file=sys.stderr)
    return 0


async def score_all(edits: EditSet, methods: Sequence[str]) -> dict[str, Floats]:
    """Method -> scores [N, K]."""
    scorer = make_scorer(HERE / "judge")
    return {name: await score_set(scorer, edits, name) for name in methods}


def pool(editor: Editor, num_tasks: int, seed: int = 11) -> EditSet:
    """POOL edits for each of the first held-out tasks of a seed."""
    rng = np.random.default_rng(seed)
    tasks = tuple(sample_task(rng, "held_out") for _ in range(num_tasks))
    assert isinstance(editor.family, FluxKontext), "the run is not one on shapes"
    edits = sample_edits(editor.family, tasks, POOL, seed=seed)
    return EditSet("pool", tasks, edits, oracle_scores(tasks, edits))


def best_of(scores: Floats, values: Floats, size: int) -> float:
    """Mean value of the highest-scoring of `size` candidates, over all subsets of each group; inputs are [N, K].

    The r-th lowest of K is the highest in comb(r - 1, size - 1) of the comb(K, size) subsets; ties are averaged.
    A missing score (nan) is never chosen over an existing one.
    """
    groups = zip(scores, values, strict=True)
    return float(np.mean([_best_of_group(row, worth, size) for row, worth in groups]))


def _best_of_group(scores: Floats, values: Floats, size: int) -> float:
    ranked = np.nan_to_num(scores, nan=-np.inf)
    total = 0.0
    for level in np.unique(ranked):
        below, up_to = int((ranked < level).sum()), int((ranked <= level).sum())
        total += (comb(up_to, size) - comb(below, size)) * float(values[ranked == level].mean())
    return total / comb(len(scores), size)


if __name__ == "__main__":
    sys.exit(main())
