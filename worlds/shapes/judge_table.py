"""How well each scoring method agrees with the oracle: `python -m worlds.shapes.judge_table`.

Scores held-out edits through the reward service's own scorer, in process, with damage of kinds that no judge was
trained on and with samples of the committed editor, which this judge has not seen. Prints the tables of BENCHMARKS.md
and writes `runs/judge_table.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress

from reward_service.engines.base import build_engine
from reward_service.methods import METHODS, load_methods
from reward_service.methods.composite import NAME as COMPOSITE
from reward_service.methods.templates import PRINCIPLES_DIRECTORY, load_task_prompts
from reward_service.principles import WrittenPrinciples
from reward_service.scoring import Scorer, ScorerOptions
from reward_service.settings import Settings
from shared.images import encode
from shared.schemas import DEFAULT_METHOD, CandidateScore, EditGroup
from worlds.shapes.editor_model import load_family, oracle_scores, sample_edits
from worlds.shapes.judge_data import UNSEEN, draw_edit
from worlds.shapes.judge_training import pairwise_accuracy
from worlds.shapes.scenes import render, to_image
from worlds.shapes.tasks import TASKS, ShapesTask, sample_task

HERE = Path(__file__).resolve().parent
ALONE = [name for name in METHODS if name != COMPOSITE]
"""Methods that need no others."""
Pictures = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float64]
Agreement = dict[str, float]


@dataclass(frozen=True)
class EditSet:
    """Groups of held-out edits with their oracle."""

    name: str
    tasks: tuple[ShapesTask, ...]
    edits: Pictures
    """[N, K, 32, 32, 3]."""
    oracle: Scores
    """[N, K]."""


class Result(TypedDict):
    """What the command writes."""

    methods: dict[str, dict[str, Agreement]]
    """Method -> edit set -> figures."""
    tasks: dict[str, dict[str, Agreement]]
    """Edit set -> task -> figures of `score_logit`."""
    untouched: dict[str, float]
    """Task -> mean `score_logit` of sources returned as they are."""
    milliseconds: dict[str, float]
    """Method -> time a candidate."""


def corruption_set(num_tasks: int, group_size: int, seed: int = 7) -> EditSet:
    """Right and wrong edits, most of them damaged in ways of UNSEEN."""
    rng = np.random.default_rng(seed)
    tasks = tuple(sample_task(rng, "held_out") for _ in range(num_tasks))
    drawn = [[draw_edit(rng, task, UNSEEN, 0.4, 0.6) for _ in range(group_size)] for task in tasks]
    edits = np.array([[edited for edited, _ in row] for row in drawn])
    return EditSet("unseen corruptions", tasks, edits, np.array([[oracle for _, oracle in row] for row in drawn]))


def editor_set(editor: Path, num_tasks: int, group_size: int, seed: int = 8) -> EditSet:
    """Groups sampled by an editor, as in a rollout."""
    rng = np.random.default_rng(seed)
    tasks = tuple(sample_task(rng, "held_out") for _ in range(num_tasks))
    edits = sample_edits(load_family(editor), tasks, group_size, seed=seed)
    return EditSet("one editor's candidates", tasks, edits, oracle_scores(tasks, edits))


def untouched_set(num_tasks: int, seed: int = 9) -> EditSet:
    """Sources returned as they are: what a judge must not reward."""
    rng = np.random.default_rng(seed)
    tasks = tuple(sample_task(rng, "held_out") for _ in range(num_tasks))
    edits = np.array([[render(task.source)] for task in tasks])
    return EditSet("untouched", tasks, edits, oracle_scores(tasks, edits))


def make_scorer(judge: Path, adapters: Mapping[str, Path] | None = None) -> Scorer:
    """The service's scorer as it serves this judge, with the transformers engine in float32.

    adapters: by method, instead of the judge's own.
    """
    settings = Settings(model=str(judge), engine="transformers", dtype="float32")
    options = ScorerOptions(
        settings.display_name, settings.image_limits, settings.max_reasoning_tokens, settings.min_score_mass
    )
    chosen = settings.adapter_directories if adapters is None else dict(adapters)
    engine = build_engine(settings.engine, replace(settings.engine_options, adapters=chosen))
    methods = load_methods(settings.prompts_directory, chosen)
    tasks = load_task_prompts(settings.task_prompts_directory)
    principles = WrittenPrinciples(settings.principles_directory or PRINCIPLES_DIRECTORY)
    return Scorer(engine, methods, tasks, principles, options)


async def score_set(scorer: Scorer, edit_set: EditSet, method: str) -> Scores:
    """Scores [N, K] by one method; NaN where there is none."""
    rows = []
    with Progress(transient=True) as progress:
        pairs = list(zip(edit_set.tasks, edit_set.edits, strict=True))
        for task, edits in progress.track(pairs, description=f"{method}: {edit_set.name}"):
            group = EditGroup(
                instruction=task.instruction,
                task=task.task,
                method=method,
                sources=(encode(to_image(render(task.source))),),
                candidates=tuple(encode(to_image(edited)) for edited in edits),
            )
            answer = await scorer.score(group, "table")
            rows.append([r.score if isinstance(r, CandidateScore) else np.nan for r in answer.results])
    return np.array(rows)


def agreement(scores: Scores, oracle: Scores) -> Agreement:
    """Pairwise accuracy, correlation and mean absolute error against the oracle, and the share of missing scores."""
    found = ~np.isnan(scores)
    accuracy, pairs = pairwise_accuracy(scores, oracle)
    return {
        "pairwise_accuracy": round(accuracy, 3),
        "pairs": pairs,
        "correlation": round(float(np.corrcoef(scores[found], oracle[found])[0, 1]), 3),
        "mean_absolute_error": round(float(np.abs(scores - oracle)[found].mean()), 3),
        "missing": round(float(1 - found.mean()), 3),
    }


def per_task(edit_set: EditSet, scores: Scores) -> dict[str, Agreement]:
    """Agreement of one method, task by task."""
    rows = {name: [i for i, task in enumerate(edit_set.tasks) if task.task == name] for name in TASKS}
    return {name: agreement(scores[chosen], edit_set.oracle[chosen]) for name, chosen in rows.items() if chosen}


async def measure(judge: Path, sets: Sequence[EditSet], methods: Sequence[str]) -> Result:
    """Every method on every set; `score_logit` task by task as well."""
    scorer = make_scorer(judge)
    result = Result(methods={}, tasks={}, untouched={}, milliseconds={})
    for method in methods:
        started = time.perf_counter()
        scores = {edit_set.name: await score_set(scorer, edit_set, method) for edit_set in sets}
        seconds = time.perf_counter() - started
        result["milliseconds"][method] = round(1e3 * seconds / sum(edit_set.oracle.size for edit_set in sets), 1)
        result["methods"][method] = {s.name: agreement(scores[s.name], s.oracle) for s in sets}
        if method == DEFAULT_METHOD:
            result["tasks"] = {s.name: per_task(s, scores[s.name]) for s in sets}
    untouched = untouched_set(240)
    rewards = (await score_set(scorer, untouched, DEFAULT_METHOD))[:, 0]
    names = np.array([task.task for task in untouched.tasks])
    result["untouched"] = {name: round(float(np.nanmean(rewards[names == name])), 3) for name in TASKS}
    return result


def markdown(result: Result) -> str:
    """The tables for BENCHMARKS.md."""
    sets = list(result["tasks"])
    headings = " | ".join(f"{name}: pairwise, correlation, error, missing" for name in sets)
    lines = [f"| method | {headings} | ms a candidate |", "| --- |" + " --- |" * (len(sets) + 1)]
    for method, row in result["methods"].items():
        cells = " | ".join(_figures(row[name]) for name in sets)
        lines.append(f"| `{method}` | {cells} | {result['milliseconds'][method]} |")
    lines += ["", f"| task (`{DEFAULT_METHOD}`) | {' | '.join(sets)} | reward of an untouched source |"]
    lines.append("| --- |" + " --- |" * (len(sets) + 1))
    for name in TASKS:
        cells = " | ".join(_figures(result["tasks"][edit_set][name]) for edit_set in sets)
        lines.append(f"| {name} | {cells} | {result['untouched'][name]} |")
    return "\n".join(lines)


def _figures(row: Agreement) -> str:
    names = ("pairwise_accuracy", "correlation", "mean_absolute_error", "missing")
    return ", ".join(f"{row[name]:.3f}" for name in names)


def main() -> int:
    """Measure, print, write."""
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
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(markdown(result))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
