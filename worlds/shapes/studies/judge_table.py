"""How well each scoring method agrees with the oracle: `python -m edit_r1.worlds.shapes.studies.judge_table`.

Scores held-out edits in process with the reward service's own scorer: edits with kinds of damage that no judge was
trained on, and samples of the committed editor, which this judge has not seen. Prints the tables of BENCHMARKS.md and
writes `runs/judge_table.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from edit_r1.reward_service.methods import METHODS
from edit_r1.reward_service.methods.composite import NAME as COMPOSITE
from edit_r1.shared.files import write_json
from edit_r1.shared.schemas import DEFAULT_METHOD
from edit_r1.workbench.markdown import table
from edit_r1.worlds.shapes.studies.edit_sets import (
    Agreement,
    EditSet,
    Scores,
    agreement,
    corruption_set,
    editor_set,
    judge_set,
    make_scorer,
    score_set,
    untouched_set,
)
from edit_r1.worlds.shapes.world.tasks import TASKS

HERE = Path(__file__).resolve().parents[1]
_PREFIXED = ("score_logit", "yes_no_logit")
"""Methods that are also measured with the service's own answer prefixes, which the judge's own prompts do not have."""
UNTAUGHT = ("unified_reward_edit", "firm_edit")
"""Methods whose answers the tiny judge has not learned to write: it would get no scores."""
ALONE = [name for name in METHODS if name not in (COMPOSITE, *UNTAUGHT)]
"""All methods that the tiny judge has learned, except the composite one."""


class Result(TypedDict):
    """Contents of the result file."""

    methods: dict[str, dict[str, Agreement]]
    """Method -> edit set -> agreement."""
    tasks: dict[str, dict[str, Agreement]]
    """Edit set -> task -> agreement of `score_logit`."""
    untouched: dict[str, float]
    """Task -> mean `score_logit` of unedited sources."""


def per_task(edit_set: EditSet, scores: Scores) -> dict[str, Agreement]:
    """Agreement of one method, by task."""
    rows = {name: [i for i, task in enumerate(edit_set.tasks) if task.task == name] for name in TASKS}
    return {name: agreement(scores[chosen], edit_set.oracle[chosen]) for name, chosen in rows.items() if chosen}


async def measure(judge: Path, sets: Sequence[EditSet], methods: Sequence[str]) -> Result:
    """Results of `score_logit`, also by task, and of the other methods on every set."""
    scorer = make_scorer(judge)
    result = Result(methods={}, tasks={}, untouched={})
    for method in dict.fromkeys((DEFAULT_METHOD, *methods)):
        judged = {edit_set.name: await judge_set(scorer, edit_set, method) for edit_set in sets}
        result["methods"][method] = {s.name: _agreement(*judged[s.name], s.oracle) for s in sets}
        if method == DEFAULT_METHOD:
            result["tasks"] = {s.name: per_task(s, judged[s.name][0]) for s in sets}
    prefixing = make_scorer(judge, built_in_prompts=True)
    for method in _PREFIXED:
        judged = {edit_set.name: await judge_set(prefixing, edit_set, method) for edit_set in sets}
        result["methods"][f"{method}, prefixed"] = {s.name: _agreement(*judged[s.name], s.oracle) for s in sets}
    untouched = untouched_set(240)
    rewards = (await score_set(scorer, untouched, DEFAULT_METHOD))[:, 0]
    names = np.array([task.task for task in untouched.tasks])
    result["untouched"] = {name: round(float(np.nanmean(rewards[names == name])), 3) for name in TASKS}
    return result


def _agreement(scores: Scores, masses: Scores, oracle: Scores) -> Agreement:
    """Agreement with the oracle, and the mean score mass of methods that read probabilities."""
    mass = {} if np.isnan(masses).all() else {"score_mass": round(float(np.nanmean(masses)), 4)}
    return {**agreement(scores, oracle), **mass}


def markdown(result: Result) -> str:
    """The tables for BENCHMARKS.md."""
    sets = list(result["tasks"])
    methods = [
        [f"`{method}`", *(f"{_figures(row[name])}, {_mass(row[name])}" for name in sets)]
        for method, row in result["methods"].items()
    ]
    tasks = [
        [task, *(_figures(result["tasks"][name][task]) for name in sets), result["untouched"][task]] for task in TASKS
    ]
    return "\n\n".join(
        (
            table(("method", *(f"{name}: pairwise, correlation, error, missing, mass" for name in sets)), methods),
            table((f"task (`{DEFAULT_METHOD}`)", *sets, "reward of an untouched source"), tasks),
        )
    )


def _mass(row: Agreement) -> str:
    return f"{row['score_mass']:.3f}" if "score_mass" in row else "-"


def _figures(row: Agreement) -> str:
    names = ("pairwise_accuracy", "correlation", "mean_absolute_error", "missing")
    return ", ".join(f"{row[name]:.3f}" for name in names)


def main() -> int:
    """Measure agreement, write the result file and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", type=Path, default=HERE / "judge")
    parser.add_argument("--editor", type=Path, default=HERE / "editor")
    parser.add_argument("--methods", nargs="+", default=ALONE, choices=ALONE)
    parser.add_argument("--out", type=Path, default=Path("runs/judge_table.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sets = [corruption_set(120, 6), editor_set(arguments.editor, 60, 12)]
    result = asyncio.run(measure(arguments.judge, sets, arguments.methods))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out, result)
    print(markdown(result))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
