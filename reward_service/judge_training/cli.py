"""`edit-r1 train-judge`: trains a verifier adapter on traces, on pairs, or on traces and then pairs."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer
from rich.console import Console

from edit_r1.reward_service.judge_training.data import read_pairs, read_traces
from edit_r1.reward_service.judge_training.judge import LearningJudge
from edit_r1.reward_service.judge_training.train import (
    PreferenceOptions,
    Questions,
    StageOptions,
    preferences,
    supervised,
)
from edit_r1.reward_service.methods import load_methods
from edit_r1.reward_service.methods.templates import PRINCIPLES_DIRECTORY, load_task_prompts
from edit_r1.reward_service.scoring.principles import WrittenPrinciples
from edit_r1.reward_service.settings import EMBEDDED_JUDGE, Settings
from edit_r1.shared.errors import ConfigError
from edit_r1.shared.files import write_json

METHODS = ("verifier", "verifier_cot")
RECORD_NAME = "recipe.json"
_TELL_EVERY = 20
_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def train_judge(arguments: Sequence[str]) -> None:
    """Run the command with these arguments; exits the process on `--help` and wrong usage. Raises EditR1Error."""
    _app(list(arguments), prog_name="edit-r1 train-judge", standalone_mode=True)


@_app.command()
def _train_judge(
    *,
    out: Annotated[Path, typer.Option(help="Output directory; use it with `edit-r1 serve --adapters METHOD=OUT`.")],
    judge: Annotated[str, typer.Option(help="Judge: checkpoint directory or Hugging Face Hub name.")] = str(
        EMBEDDED_JUDGE
    ),
    method: Annotated[str, typer.Option(help=f"Method to train for: {' or '.join(METHODS)}.")] = "verifier",
    traces: Annotated[
        Path | None, typer.Option(help="Edits with the correct answers (JSON Lines), for the first stage.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Preference data (JSON Lines, as for `align`), for the second stage.")
    ] = None,
    start: Annotated[Path | None, typer.Option(help="Adapter to continue from; by default a new one.")] = None,
    rank: Annotated[int, typer.Option(min=1, help="Rank of a new adapter.")] = 16,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the first stage.")] = 500,
    batch: Annotated[int, typer.Option(min=1, help="Traces per step of the first stage.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="Learning rate of the first stage.")] = 1e-4,
    preference_steps: Annotated[int, typer.Option(min=1, help="Steps of the second stage.")] = 200,
    preference_batch: Annotated[int, typer.Option(min=1, help="Pairs per step of the second stage.")] = 8,
    preference_learning_rate: Annotated[float, typer.Option(help="Learning rate of the second stage.")] = 2e-5,
    chains: Annotated[int, typer.Option(min=2, help="Answers sampled per edit of a pair.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the example order and of sampling.")] = 0,
) -> None:
    """Train a verifier: first to give the right verdict on each principle, then to rate preferred edits higher.

    Give --traces, --pairs or both; a stage without data is skipped.
    """
    if method not in METHODS:
        raise ConfigError(f"--method {method}: must be one of {', '.join(METHODS)}")
    if traces is None and pairs is None:
        raise ConfigError("nothing to train on: give --traces, --pairs or both")
    known_traces = [] if traces is None else read_traces(traces)
    known_pairs = [] if pairs is None else read_pairs(pairs)
    settings = Settings(model=judge)
    questions = Questions(
        load_methods(settings.prompts, judge_prompts=settings.judge_prompts)[method],
        WrittenPrinciples(settings.principles_directory or PRINCIPLES_DIRECTORY),
        load_task_prompts(settings.task_prompts_directory),
    )
    for edit in (*(one.edit for one in known_traces), *(edit for pair in known_pairs for edit in pair.edits)):
        questions.edit(edit)  # report invalid edits before weights are loaded
    learner = LearningJudge(judge, rank=rank, start=start)
    console, started = Console(), time.monotonic()
    log = _Log(console)
    if known_traces:
        log.stage = "traces"
        supervised(learner, questions, known_traces, StageOptions(steps, batch, learning_rate), seed=seed, tell=log)
    if known_pairs:
        log.stage = "pairs"
        options = PreferenceOptions(preference_steps, preference_batch, preference_learning_rate, chains)
        preferences(learner, questions, known_pairs, options, seed=seed, tell=log)
    out.mkdir(parents=True, exist_ok=True)
    learner.save(out)
    record = {"method": method, "seed": seed, "last": log.last, "seconds": round(time.monotonic() - started)}
    write_json(out / RECORD_NAME, record)
    console.print(f"{out}   edit-r1 serve --model {judge} --adapters {method}={out}", soft_wrap=True, highlight=False)


class _Log:
    """Prints the steps' metrics, as means over the last few steps."""

    def __init__(self, console: Console) -> None:
        self.stage = ""
        self.last: dict[str, dict[str, float]] = {}
        self._console = console
        self._seen: dict[str, list[float]] = defaultdict(list)

    def __call__(self, step: int, measured: dict[str, float]) -> None:
        for name, value in measured.items():
            self._seen[name].append(value)
        if (step + 1) % _TELL_EVERY == 0:
            means = {name: fmean(self._seen[name]) for name in measured}
            shown = "  ".join(f"{name} {value:.3f}" for name, value in means.items())
            self._console.print(f"{self.stage} step {step + 1}: {shown}", highlight=False)
            self.last[self.stage] = means
            self._seen.clear()
