"""`edit-r1 selftest`: scores golden edits with a running reward service and prints how well their order is kept.

A thin wrapper around the client; imports neither the service nor the trainer.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from edit_r1.shared.client import RewardClient
from edit_r1.shared.golden.edits import (
    MIN_ORDERED_SHARE,
    MIN_SCORE_MASS,
    QUALITIES,
    Golden,
    low_mass,
    mean_mass,
    ordered_shares,
    read_calibration,
    required_share,
    scores_by_quality,
)
from edit_r1.shared.golden.scenes import SCENES, golden_scenes
from edit_r1.shared.schemas import DEFAULT_METHOD, ScoreResponse
from edit_r1.workbench.clients.options import DEFAULT_URL, ApiKey, Url

SAMPLES = Path(__file__).resolve().parents[2] / "worlds" / "shapes" / "samples"
_READY_SECONDS = 300.0

_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
Scores = list[dict[str, float]]


def selftest(arguments: Sequence[str]) -> None:
    """Run the command with these arguments; exits the process on `--help` and wrong usage.

    Raises:
        ConfigError: the calibration directory is invalid.
        RewardServiceError: the service rejected a request or is unavailable.

    """
    _app(list(arguments), prog_name="edit-r1 selftest", standalone_mode=True)


@_app.command()
def _selftest(
    url: Url = DEFAULT_URL,
    method: Annotated[list[str] | None, typer.Option(help="Scoring method; repeat for several.")] = None,
    calibration: Annotated[
        str,
        typer.Option(
            help="Golden edits: a directory of NN/{source,done,half,untouched,wrong}.png and NN/instruction.txt, or "
            "`scenes`: larger pictures made by code, for any judge. By default the demo world's."
        ),
    ] = str(SAMPLES),
    min_score_mass: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum mean probability of a method's labels.")
    ] = MIN_SCORE_MASS,
    api_key: ApiKey = None,
) -> None:
    """Check that a running judge ranks done > half > untouched > wrong; exits with status 1 if it often does not."""
    golden = golden_scenes() if calibration == SCENES else read_calibration(Path(calibration))
    methods = method or [DEFAULT_METHOD]
    answers = asyncio.run(_score_all(url, api_key, golden, methods))
    scores = {name: [scores_by_quality(*pair) for pair in zip(golden, answers[name], strict=True)] for name in methods}
    masses = {name: mean_mass(answers[name]) for name in methods}
    console = Console()
    for name in methods:
        console.print(_scores_table(name, golden, scores[name]))
    console.print(_order_table(scores, masses))
    for name, mass in masses.items():
        if mass is not None and mass < min_score_mass:
            console.print(f"FAILED: {low_mass(name, mass, min_score_mass)}")
            raise typer.Exit(1)
    weak = [name for name in methods if required_share(scores[name]) < MIN_ORDERED_SHARE]
    if weak:
        console.print(
            f"FAILED: {', '.join(weak)}: done edits must beat {MIN_ORDERED_SHARE:.0%} of untouched and wrong ones"
        )
        raise typer.Exit(1)
    console.print("passed")


async def _score_all(
    url: str, api_key: str | None, golden: Sequence[Golden], methods: Sequence[str]
) -> dict[str, list[ScoreResponse]]:
    """Method -> one answer per golden group."""
    async with RewardClient(url, api_key=api_key) as client:
        await client.wait_ready(_READY_SECONDS)
        found = {}
        for name in methods:
            groups = [one.group.model_copy(update={"method": name}) for one in golden]
            found[name] = await asyncio.gather(*(client.score(group) for group in groups))
    return found


def _scores_table(method: str, golden: Sequence[Golden], scores: Scores) -> Table:
    """Mean score of each quality, by task."""
    by_task: dict[str, Scores] = defaultdict(list)
    for one, table in zip(golden, scores, strict=True):
        by_task[one.task].append(table)
    shown = Table(title=f"mean score by {method}")
    for heading in ("task", "groups", *QUALITIES, "no score"):
        shown.add_column(heading, justify="left" if heading == "task" else "right")
    for task, tables in sorted(by_task.items()):
        missing = sum(len(one.qualities) for one in golden if one.task == task) - sum(map(len, tables))
        shown.add_row(task, str(len(tables)), *_means(tables), str(missing))
    missing = sum(len(one.qualities) for one in golden) - sum(map(len, scores))
    shown.add_row("all", str(len(scores)), *_means(scores), str(missing), style="bold")
    return shown


def _means(tables: Sequence[Mapping[str, float]]) -> list[str]:
    columns = ([table[quality] for table in tables if quality in table] for quality in QUALITIES)
    return [f"{fmean(column):.3f}" if column else "-" for column in columns]


def _order_table(scores: Mapping[str, Scores], masses: Mapping[str, float | None]) -> Table:
    """How often the better edit won: one row per pair, one column per method; and each method's score mass."""
    shares = {name: ordered_shares(tables) for name, tables in scores.items()}
    shown = Table(title="better edit scored higher")
    for heading in ("pair", *shares):
        shown.add_column(heading, justify="left" if heading == "pair" else "right")
    for pair in next(iter(shares.values())):
        shown.add_row(" > ".join(pair), *(f"{found[pair]:.0%}" for found in shares.values()))
    shown.add_row("score mass", *("-" if masses[name] is None else f"{masses[name]:.3f}" for name in shares))
    return shown
