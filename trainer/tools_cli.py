"""`edit-r1 doctor`, `report`, `export` and `edit`: commands to use before, during and after a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from edit_r1.shared.errors import CheckpointError, ConfigError
from edit_r1.shared.options import DEFAULT_URL, ApiKey
from edit_r1.shared.schemas import DEFAULT_METHOD

if TYPE_CHECKING:
    from edit_r1.workbench.editing.editor import WeightsName

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
Run = Annotated[Path, typer.Argument(help="Run directory.")]
Step = Annotated[int | None, typer.Option(help="Checkpoint step-N; by default the newest complete one.")]
Weights = Annotated[str, typer.Option(help="Weights to use: ema, policy or old.")]
_WEIGHTS = ("ema", "policy", "old")


def run(arguments: Sequence[str]) -> None:
    """Run one of the commands; exits on `--help` and on usage errors. Raises EditR1Error."""
    app(list(arguments), prog_name="edit-r1", standalone_mode=True)


@app.command()
def report(run_dir: Run) -> None:
    """Regenerate a run's report.html and summary.json."""
    from edit_r1.trainer.records.metrics_log import read_metrics  # noqa: PLC0415
    from edit_r1.trainer.report import report as reports  # noqa: PLC0415 - every command imports what it needs

    lines = read_metrics(run_dir)
    if not lines:
        raise CheckpointError(f"{run_dir} contains no run: it has no metrics.jsonl with a finished epoch")
    times = ("time/epoch_seconds", "time/evaluation_seconds")
    reports.write(run_dir, sum(line.get(name) or 0.0 for line in lines for name in times))
    typer.echo(run_dir / reports.REPORT_NAME)


@app.command()
def export(
    run_dir: Run,
    *,
    out: Annotated[Path, typer.Option(help="Output directory.")],
    step: Step = None,
    weights: Weights = "ema",
    merged: Annotated[bool, typer.Option("--merged", help="The whole pipeline with the adapter merged in.")] = False,
) -> None:
    """Export a run's adapter as one file for diffusers and ComfyUI that has full strength at scale 1."""
    from edit_r1.workbench.editing import editor  # noqa: PLC0415

    found = editor.find_weights(run_dir, _weights(weights), step)
    typer.echo(editor.export_merged(run_dir, found, out) if merged else editor.export(run_dir, found, out))


@app.command()
def edit(
    run_dir: Run,
    *,
    image: Annotated[list[Path], typer.Option(help="Source image; repeat for several, in order.")],
    instruction: Annotated[str, typer.Option(help="Edit instruction.")],
    out: Annotated[Path, typer.Option(help="Output file.")],
    step: Step = None,
    weights: Weights = "ema",
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Euler steps; by default the run's evaluation.steps.")
    ] = None,
    base: Annotated[bool, typer.Option("--base", help="Use the model before training, without the adapter.")] = False,
    best_of: Annotated[int, typer.Option(min=1, help="Make this many edits and keep the judge's choice.")] = 1,
    url: Annotated[str, typer.Option(envvar="REWARD_URL", help="Reward service, for --best-of.")] = DEFAULT_URL,
    method: Annotated[str, typer.Option(help="Scoring method, for --best-of.")] = DEFAULT_METHOD,
    task: Annotated[str | None, typer.Option(help="Task type, for --best-of.")] = None,
    api_key: ApiKey = None,
) -> None:
    """Edit an image with a run's model; with --best-of N, keep the best-scored of N edits."""
    from edit_r1.trainer.tasks.task_list import open_picture  # noqa: PLC0415
    from edit_r1.workbench.clients.best_of_n import check_judge, rank  # noqa: PLC0415
    from edit_r1.workbench.editing.editor import Editor, find_weights, run_config  # noqa: PLC0415

    sources = [open_picture(path) for path in image]
    found = None if base else find_weights(run_dir, _weights(weights), step)
    if best_of > 1:
        check_judge(url, api_key, method)
    editor = Editor(run_config(run_dir), found)
    edits = [editor.edit(sources, instruction, seed=seed + i, num_steps=steps) for i in range(best_of)]
    best = 0
    if best_of > 1:
        ranked = rank(url, api_key, sources, edits, instruction=instruction, method=method, task=task)
        for place in ranked:
            typer.echo(f"seed {seed + place.index}: {place.told}")
        best = ranked[0].index
    edits[best].save(out)
    typer.echo(out)


@app.command()
def doctor(
    config: Annotated[Path, typer.Argument(help="Training configuration, as for edit-r1 train.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value ...")] = None,
    *,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Number of GPUs for the run; by default those of this machine.")
    ] = None,
    gpu_memory: Annotated[float | None, typer.Option(help="GB per GPU; by default this machine's, or 80.")] = None,
    tflops: Annotated[float | None, typer.Option(help="Sustained TFLOP/s per GPU; by default 400 (an H100).")] = None,
    rehearse: Annotated[bool, typer.Option("--rehearse", help="Load the model and train on one group.")] = False,
) -> None:
    """Check data, service, memory and time of a training run and suggest changes, without loading weights."""
    from edit_r1.trainer.config import read_config  # noqa: PLC0415
    from edit_r1.trainer.doctor.doctor import Doctor  # noqa: PLC0415
    from edit_r1.trainer.doctor.planning import this_machine  # noqa: PLC0415

    checks = Doctor(read_config(config, overrides or []), this_machine(gpus, gpu_memory, tflops), typer.echo)
    checks.examine()
    if rehearse and not checks.num_failures:
        checks.rehearse()
    typer.echo(checks.verdict)
    raise typer.Exit(code=min(checks.num_failures, 1))


def _weights(name: str) -> WeightsName:
    if name not in _WEIGHTS:
        raise ConfigError(f"--weights {name}: must be one of {', '.join(_WEIGHTS)}")
    return cast("WeightsName", name)
