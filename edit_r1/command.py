"""The `edit-r1` command: one thin function per subcommand, each importing its program only when called.

This way `edit-r1 score` needs neither torch nor vllm, and a trainer node needs none of the service's dependencies.
"""

from __future__ import annotations

import importlib.util
import sys

import typer

from edit_r1.shared.errors import ConfigError, EditR1Error
from edit_r1.shared.library_warnings import silence_library_warnings

app = typer.Typer(
    name="edit-r1",
    help="Post-train instruction-based image editors with reinforcement learning from a multimodal judge.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# Each program parses its own arguments, so a settings field and its flag are declared once, in its settings model.
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_PASS_ON)
def serve(context: typer.Context) -> None:
    """Start the reward service. `edit-r1 serve --help` lists its settings."""
    _need("fastapi", "transformers", "uvicorn", extra="`cpu` (laptop) or `reward` (GPU node)")
    from edit_r1.reward_service.cli import serve as run  # noqa: PLC0415

    run(context.args)


@app.command(context_settings=_PASS_ON)
def train(context: typer.Context) -> None:
    """Train an editor. Usage: `edit-r1 train CONFIG [dotted.key=value ...]`."""
    _need_trainer()
    from edit_r1.trainer.cli import train as run  # noqa: PLC0415

    run(context.args)


@app.command(context_settings=_PASS_ON)
def report(context: typer.Context) -> None:
    """Regenerate a run's report. Usage: `edit-r1 report RUN`."""
    _need_trainer()
    from edit_r1.trainer.cli import run  # noqa: PLC0415

    run(["report", *context.args])


@app.command(context_settings=_PASS_ON)
def export(context: typer.Context) -> None:
    """Export a run's weights for other programs. Usage: `edit-r1 export RUN --out DIR`."""
    _need_trainer()
    from edit_r1.workbench.editing.cli import run  # noqa: PLC0415

    run(["export", *context.args])


@app.command(context_settings=_PASS_ON)
def edit(context: typer.Context) -> None:
    """Edit an image with a run's model. Usage: `edit-r1 edit RUN --image a.png --instruction "..." --out b.png`."""
    _need_trainer()
    from edit_r1.workbench.editing.cli import run  # noqa: PLC0415

    run(["edit", *context.args])


@app.command(context_settings=_PASS_ON)
def evaluate(context: typer.Context) -> None:
    """Evaluate an editor on a benchmark. Usage: `edit-r1 evaluate imgedit|gedit DIR --model RUN --out DIR ...`."""
    _need_trainer()
    from edit_r1.workbench.evaluation.cli import run  # noqa: PLC0415

    run(context.args)


@app.command(context_settings=_PASS_ON)
def doctor(context: typer.Context) -> None:
    """Check a training run before starting it. Usage: `edit-r1 doctor CONFIG [key=value ...]`."""
    _need_trainer()
    from edit_r1.trainer.cli import run  # noqa: PLC0415

    run(["doctor", *context.args])


@app.command("train-judge", context_settings=_PASS_ON)
def train_judge(context: typer.Context) -> None:
    """Train a verifier adapter on traces and preferences. `edit-r1 train-judge --help` lists its options."""
    _need("peft", "transformers", extra="`service` (or `cpu`)")
    from edit_r1.reward_service.judge_training.cli import train_judge as run  # noqa: PLC0415

    run(context.args)


@app.command(context_settings=_PASS_ON)
def align(context: typer.Context) -> None:
    """Compare a judge's scores with human preferences. Usage: `edit-r1 align DATA --url URL --methods all`."""
    _need("jinja2", "pyarrow", "scipy", extra="`evaluation` (or `cpu`)")
    from edit_r1.workbench.alignment.cli import align as run  # noqa: PLC0415

    run(context.args)


@app.command(context_settings=_PASS_ON)
def data(context: typer.Context) -> None:
    """Prepare training data. Usage: `edit-r1 data boxes|redbox|text-edit|rationality|mix|check|convert|shapes`."""
    _need("numpy", extra="`trainer` (or `cpu`)")
    from edit_r1.workbench.data_prep.cli import run  # noqa: PLC0415
    from edit_r1.worlds.shapes.data_set import shapes  # noqa: PLC0415

    run(context.args, more=[shapes])


@app.command(context_settings=_PASS_ON)
def score(context: typer.Context) -> None:
    """Score edits with a running service. `edit-r1 score --help` lists its options."""
    from edit_r1.workbench.clients.score import score as run  # noqa: PLC0415

    run(context.args)


@app.command(context_settings=_PASS_ON)
def selftest(context: typer.Context) -> None:
    """Check a running judge on golden edits. `edit-r1 selftest --help` lists its options."""
    from edit_r1.workbench.clients.selftest import selftest as run  # noqa: PLC0415

    run(context.args)


def main() -> None:
    """Entry point: prints our own errors to stderr, without a traceback, and exits with status 1."""
    silence_library_warnings()
    try:
        app()
    except EditR1Error as error:
        print(f"edit-r1: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _need_trainer() -> None:
    _need("accelerate", "diffusers", "peft", "tensorboard", extra="`trainer` (or `cpu`)")


def _need(*packages: str, extra: str) -> None:
    """Raise ConfigError if any package of the command's extra is missing."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(
            f"this command needs {', '.join(missing)}; install the extra {extra}: uv pip install -e '.[EXTRA]' "
            "in a checkout, uv pip install 'WHEEL_FILE[EXTRA]' without one"
        )
