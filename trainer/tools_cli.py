"""`edit-r1 report`, `export` and `edit`: what one does with a run when it is over, or while it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from PIL import Image

from shared import images
from shared.errors import CheckpointError, DataError, ImageError

if TYPE_CHECKING:
    from trainer.editor import WeightsName

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
Run = Annotated[Path, typer.Argument(help="Directory of the run.")]
Step = Annotated[int | None, typer.Option(help="Checkpoint step-N; by default the newest whole one.")]
Weights = Annotated[str, typer.Option(help="Which weights: ema, policy or old.")]
_WEIGHTS = ("ema", "policy", "old")


def run(arguments: Sequence[str]) -> None:
    """Run one of the commands; ends the process on `--help` and wrong usage. Raises EditR1Error."""
    app(list(arguments), prog_name="edit-r1", standalone_mode=True)


@app.command()
def report(run_dir: Run) -> None:
    """Write the run's report.html and summary.json anew."""
    from trainer import report as reports  # noqa: PLC0415 - every command imports what it needs
    from trainer.metrics_log import read_metrics  # noqa: PLC0415

    lines = read_metrics(run_dir)
    if not lines:
        raise CheckpointError(f"{run_dir} holds no run: there is no metrics.jsonl with a finished epoch")
    times = ("time/epoch_seconds", "time/evaluation_seconds")
    reports.write(run_dir, sum(line.get(name) or 0.0 for line in lines for name in times))
    typer.echo(run_dir / reports.REPORT_NAME)


@app.command()
def export(
    run_dir: Run,
    *,
    out: Annotated[Path, typer.Option(help="Directory to write.")],
    step: Step = None,
    weights: Weights = "ema",
    merged: Annotated[bool, typer.Option("--merged", help="The whole pipeline, the adapter in its weights.")] = False,
) -> None:
    """Write a run's adapter as one file for diffusers and ComfyUI, at full strength at scale 1."""
    from trainer import editor  # noqa: PLC0415

    found = editor.find_weights(run_dir, _weights(weights), step)
    typer.echo(editor.export_merged(run_dir, found, out) if merged else editor.export(run_dir, found, out))


@app.command()
def edit(
    run_dir: Run,
    *,
    image: Annotated[list[Path], typer.Option(help="Source picture; several allowed, in order.")],
    instruction: Annotated[str, typer.Option(help="What to do with it.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    step: Step = None,
    weights: Weights = "ema",
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Euler steps; by default those of the run's evaluation.")] = None,
    base: Annotated[bool, typer.Option("--base", help="Without the adapter: the model before training.")] = False,
) -> None:
    """Edit a picture with a run's model."""
    from trainer.editor import Editor, find_weights  # noqa: PLC0415

    sources = [_open(path) for path in image]
    found = None if base else find_weights(run_dir, _weights(weights), step)
    Editor(run_dir, found).edit(sources, instruction, seed=seed, num_steps=steps).save(out)
    typer.echo(out)


def _weights(name: str) -> WeightsName:
    if name not in _WEIGHTS:
        raise DataError(f"--weights {name}: one of {', '.join(_WEIGHTS)}")
    return cast("WeightsName", name)


def _open(path: Path) -> Image.Image:
    try:
        return images.decode(path.read_bytes())
    except (OSError, ImageError) as error:
        raise DataError(f"cannot read image {path}: {error}") from error
