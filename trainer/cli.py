"""`edit-r1 train`, `doctor` and `report`: the trainer's commands.

Everything that can be checked without a model is checked before torch is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from edit_r1.shared.errors import CheckpointError, EditR1Error
from edit_r1.shared.library_warnings import silence_library_warnings

USAGE = """Usage: edit-r1 train CONFIG [key=value ...]

Train an editor. CONFIG is a YAML file; key=value overrides one of its keys, e.g.
    edit-r1 train worlds/shapes/nft.yaml reward.url=http://127.0.0.1:8000 run_dir=runs/x epochs=4
With several processes: accelerate launch --multi_gpu --num_processes 2 -m edit_r1.trainer CONFIG [key=value ...]
(Pass --multi_gpu on CPUs too; without it accelerate starts a single process.)"""
_INTERRUPTED = 130  # 128 + SIGINT, the shell convention

_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def train(args: list[str]) -> None:
    """Run training. Raises EditR1Error for problems the user can fix; exits with 130 when interrupted."""
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)  # noqa: T201
        return
    try:
        _train(Path(args[0]), args[1:])
    except KeyboardInterrupt:
        print("interrupted; rerun the same command to resume from the last checkpoint", file=sys.stderr)  # noqa: T201
        sys.exit(_INTERRUPTED)


def run(arguments: Sequence[str]) -> None:
    """Run `doctor` or `report`; exits on `--help` and on usage errors. Raises EditR1Error."""
    _app(list(arguments), prog_name="edit-r1", standalone_mode=True)


def main() -> None:
    """Entry point of `python -m edit_r1.trainer`, run in every process of `accelerate launch`; only rank 0 prints."""
    silence_library_warnings()
    try:
        train(sys.argv[1:])
    except EditR1Error as error:
        if _is_main():
            print(f"edit-r1: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


@_app.command()
def doctor(
    config: Annotated[Path, typer.Argument(help="Training configuration, as for edit-r1 train.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Configuration overrides, dotted.key=value.")] = None,
    *,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Number of GPUs for the run; by default those of this machine.")
    ] = None,
    gpu_memory: Annotated[float | None, typer.Option(help="GB per GPU; by default this machine's, or 80.")] = None,
    tflops: Annotated[
        float | None, typer.Option(help="Measured TFLOP/s per GPU in training; by default 200 to 500 (an H100).")
    ] = None,
    judge_memory: Annotated[
        float | None, typer.Option(min=0, help="GB of each GPU that a judge on the same GPUs takes.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Judge to check, a checkpoint directory or Hub name, as vLLM would serve it.")
    ] = None,
    rehearse: Annotated[bool, typer.Option("--rehearse", help="Also load the model and train on one group.")] = False,
) -> None:
    """Check data, service, memory and time of a training run, and suggest changes. No weights are loaded."""
    from edit_r1.trainer.config import read_config  # noqa: PLC0415
    from edit_r1.trainer.doctor.doctor import Doctor  # noqa: PLC0415
    from edit_r1.trainer.doctor.planning import this_machine  # noqa: PLC0415

    machine = this_machine(gpus, gpu_memory, tflops, judge_memory)
    checks = Doctor(read_config(config, overrides or []), machine, typer.echo, judge)
    checks.examine()
    if rehearse and not checks.num_failures:
        checks.rehearse()
    typer.echo(checks.verdict)
    raise typer.Exit(code=min(checks.num_failures, 1))


@_app.command()
def report(run_dir: Annotated[Path, typer.Argument(help="Run directory.")]) -> None:
    """Regenerate a run's report.html and summary.json."""
    from edit_r1.trainer.records.metrics_log import read_metrics  # noqa: PLC0415
    from edit_r1.trainer.report import report as reports  # noqa: PLC0415 - every command imports what it needs

    lines = read_metrics(run_dir)
    if not lines:
        raise CheckpointError(f"{run_dir} contains no run: it has no metrics.jsonl with a finished epoch")
    times = ("time/epoch_seconds", "time/evaluation_seconds")
    reports.write(run_dir, sum(line.get(name) or 0.0 for line in lines for name in times))
    typer.echo(run_dir / reports.REPORT_NAME)


def _train(path: Path, overrides: list[str]) -> None:
    from edit_r1.trainer.config import read_config  # noqa: PLC0415 - the usage line needs no imports
    from edit_r1.trainer.machine.progress import Display  # noqa: PLC0415
    from edit_r1.trainer.run.preflight import preflight  # noqa: PLC0415

    config = read_config(path, overrides)
    display = Display(visible=_is_main())
    inputs = preflight(config, display.say)

    from edit_r1.trainer.train import run_training  # noqa: PLC0415 - torch and diffusers are imported only after the checks

    run_training(config, inputs, display)


def _is_main() -> bool:
    """Whether this is the process that prints; `accelerate launch` sets RANK."""
    return os.environ.get("RANK", "0") == "0"
