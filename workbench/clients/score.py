"""`edit-r1 score`: score image files from the terminal with a running service; prints a table.

A thin wrapper around the client; imports neither the service nor the trainer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from edit_r1.shared.client import RewardClient
from edit_r1.shared.errors import DataError, fault_line
from edit_r1.shared.schemas import DEFAULT_METHOD, CandidateError, CandidateScore, EditGroup, ScoreResponse
from edit_r1.workbench.clients.options import DEFAULT_URL, ApiKey, Url

_READY_SECONDS = 5.0
_BAR_CELLS = 20

_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def score(arguments: Sequence[str]) -> None:
    """Run the command with these arguments; exits the process on `--help` and wrong usage.

    Raises:
        DataError: a file cannot be read, or the edit is invalid (e.g. an empty instruction).
        RewardServiceError: the service rejected the request or is unavailable.

    """
    _app(list(arguments), prog_name="edit-r1 score", standalone_mode=True)


@_app.command()
def _score(
    *,
    source: Annotated[list[Path], typer.Option(help="Source image; repeat for several, in order.")],
    candidate: Annotated[list[Path], typer.Option(help="Edited image; repeat for several.")],
    instruction: Annotated[str, typer.Option(help="Edit instruction.")],
    url: Url = DEFAULT_URL,
    method: Annotated[str, typer.Option(help="Scoring method, one of GET /v1/methods.")] = DEFAULT_METHOD,
    task: Annotated[str | None, typer.Option(help="Task type; selects the task prompt.")] = None,
    requirement: Annotated[str | None, typer.Option(help="Requirement text that replaces the task prompt.")] = None,
    num_passes: Annotated[int, typer.Option(help="Number of answers averaged, for sampling methods.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed for sampling methods.")] = 0,
    temperature: Annotated[
        float | None, typer.Option(help="Temperature for sampling methods; by default the method's own.")
    ] = None,
    principles: Annotated[str | None, typer.Option(help="Principles that verifiers check, as a JSON list.")] = None,
    composite: Annotated[str | None, typer.Option(help="Recipe for the method `composite`, as JSON.")] = None,
    reasoning: Annotated[bool, typer.Option("--reasoning", help="Show the judge's reasoning.")] = False,
    api_key: ApiKey = None,
) -> None:
    """Score edits of one source image with a running reward service. Exits with status 1 if any edit has no score."""
    try:
        group = EditGroup.model_validate(
            {
                "instruction": instruction,
                "sources": tuple(map(_read, source)),
                "candidates": tuple(map(_read, candidate)),
                "method": method,
                "task": task,
                "requirement": requirement,
                "num_passes": num_passes,
                "seed": seed,
                "temperature": temperature,
                "principles": principles,
                "composite": composite,
                "reasoning": reasoning,
            }
        )
    except ValidationError as error:
        raise DataError("; ".join(map(fault_line, error.errors()))) from error
    scores = asyncio.run(_ask(url, api_key, group))
    _print(scores, candidate)
    if any(isinstance(result, CandidateError) for result in scores.results):
        raise typer.Exit(1)


async def _ask(url: str, api_key: str | None, group: EditGroup) -> ScoreResponse:
    async with RewardClient(url, api_key=api_key) as client:
        await client.wait_ready(_READY_SECONDS)
        return await client.score(group)


def _print(scores: ScoreResponse, candidates: Sequence[Path]) -> None:
    """One row per candidate: its score as a number and a bar with the distribution or parts, or why there is none."""
    console = Console()
    table = Table(title=f"{scores.method} by {scores.model}")
    for heading in ("candidate", "score", "", "distribution or parts"):
        table.add_column(heading, overflow="fold")
    for path, result in zip(candidates, scores.results, strict=True):
        if isinstance(result, CandidateError):
            table.add_row(str(path), "-", "", result.error.message, style="red")
            continue
        bar = "█" * round(result.score * _BAR_CELLS)
        table.add_row(str(path), f"{result.score:.3f}", bar.ljust(_BAR_CELLS, "░"), _weighed(result))
    console.print(table, markup=False)
    for path, result in zip(candidates, scores.results, strict=True):
        if isinstance(result, CandidateError):
            continue
        for point in result.details.get("principles", ()):
            verdict = "yes" if point["verdict"] else "no"
            console.print(f"{path}: {point['score']:.2f} {verdict:3} {point['question']}", markup=False)
        if result.reasoning:
            console.print(f"{path}: {result.reasoning}", markup=False)


def _weighed(result: CandidateScore) -> str:
    """The inputs of the score: the labels' probabilities, or else the sub-scores."""
    shares: dict[str, float] = result.distribution or result.details.get("parts", {})
    return "  ".join(f"{label}: {share:.2f}" for label, share in shares.items())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read image {path}: {error.strerror}") from error
