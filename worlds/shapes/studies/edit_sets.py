"""Held-out edits with their oracle scores, and a judge's scores of them from the service's scorer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

from edit_r1.reward_service.engines.factory import build_engine
from edit_r1.reward_service.methods import load_methods
from edit_r1.reward_service.methods.templates import PRINCIPLES_DIRECTORY, load_task_prompts
from edit_r1.reward_service.scoring.principles import WrittenPrinciples
from edit_r1.reward_service.scoring.scorer import Scorer, ScorerOptions
from edit_r1.reward_service.settings import Settings
from edit_r1.shared.images import encode
from edit_r1.shared.schemas import CandidateScore, EditGroup
from edit_r1.worlds.shapes.training.editor_model import load_family, oracle_scores, sample_edits
from edit_r1.worlds.shapes.training.judge_data import UNSEEN, draw_edit
from edit_r1.worlds.shapes.training.judge_trainer import pairwise_accuracy
from edit_r1.worlds.shapes.world.scenes import render, to_image
from edit_r1.worlds.shapes.world.tasks import ShapesTask, sample_task

Pictures = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float64]
Agreement = dict[str, float]
"""Measure -> value."""


@dataclass(frozen=True)
class EditSet:
    """Groups of held-out edits with their oracle scores."""

    name: str
    tasks: tuple[ShapesTask, ...]
    edits: Pictures
    """[N, K, 32, 32, 3]."""
    oracle: Scores
    """[N, K]."""


def corruption_set(num_tasks: int, group_size: int, seed: int = 7) -> EditSet:
    """Right and wrong edits, most of them with UNSEEN kinds of damage."""
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
    """Unedited sources, which a judge must not reward."""
    rng = np.random.default_rng(seed)
    tasks = tuple(sample_task(rng, "held_out") for _ in range(num_tasks))
    edits = np.array([[render(task.source)] for task in tasks])
    return EditSet("untouched", tasks, edits, oracle_scores(tasks, edits))


def make_scorer(judge: Path, adapters: Mapping[str, Path] | None = None, *, built_in_prompts: bool = False) -> Scorer:
    """The service's scorer for this judge, with the transformers engine in float32.

    adapters: adapter directories by method, instead of the judge's own.
    built_in_prompts: the service's prompts and answer prefixes, instead of the judge's own.
    """
    settings = Settings(model=str(judge), engine="transformers", dtype="float32")
    options = ScorerOptions(
        settings.display_name, settings.image_limits, settings.max_reasoning_tokens, settings.min_score_mass
    )
    chosen = settings.adapter_directories if adapters is None else dict(adapters)
    engine = build_engine(settings.engine, replace(settings.engine_options, adapters=chosen))
    prompts = (None, None) if built_in_prompts else (settings.prompts, settings.judge_prompts)
    methods = load_methods(prompts[0], chosen, prompts[1])
    tasks = load_task_prompts(settings.task_prompts_directory)
    principles = WrittenPrinciples(settings.principles_directory or PRINCIPLES_DIRECTORY)
    return Scorer(engine, methods, tasks, principles, options)


async def score_set(scorer: Scorer, edit_set: EditSet, method: str) -> Scores:
    """Scores [N, K] from one method; NaN where there is none."""
    return (await judge_set(scorer, edit_set, method))[0]


async def judge_set(scorer: Scorer, edit_set: EditSet, method: str) -> tuple[Scores, Scores]:
    """Scores and score masses, each [N, K], from one method; NaN where there is none."""
    rows, masses = [], []
    with Progress(console=Console(stderr=True), transient=True) as progress:
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
            scored = [result if isinstance(result, CandidateScore) else None for result in answer.results]
            rows.append([one.score if one else np.nan for one in scored])
            masses.append([np.nan if one is None or one.score_mass is None else one.score_mass for one in scored])
    return np.array(rows), np.array(masses)


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
