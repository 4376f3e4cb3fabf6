"""`edit-r1 edit` and `edit-r1 export`: a run's editor on your images, and its weights for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from edit_r1.shared.errors import ConfigError
from edit_r1.shared.schemas import DEFAULT_METHOD
from edit_r1.workbench.clients.options import DEFAULT_URL, ApiKey

if TYPE_CHECKING:
    from edit_r1.workbench.editing.editor import WeightsName

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
Run = Annotated[Path, typer.Argument(help="Run directory.")]
Step = Annotated[int | None, typer.Option(help="Checkpoint step-N; by default the newest complete one.")]
Weights = Annotated[str, typer.Option(help="Weights to use: ema, policy or old.")]
Sampling = Annotated[
    str,
    typer.Option(
        help="configured, or published: steps and guidance of the model family's published benchmark samples. Settings "
        "given explicitly take precedence."
    ),
]
_WEIGHTS = ("ema", "policy", "old")


def run(arguments: Sequence[str]) -> None:
    """Run one of the commands; exits on `--help` and on usage errors. Raises EditR1Error."""
    app(list(arguments), prog_name="edit-r1", standalone_mode=True)


@app.command()
def export(
    run_dir: Run,
    *,
    out: Annotated[Path, typer.Option(help="Output directory.")],
    step: Step = None,
    weights: Weights = "ema",
    merged: Annotated[
        bool, typer.Option("--merged", help="Export the whole pipeline with the weights merged in.")
    ] = False,
) -> None:
    """Export a run's weights: an adapter that diffusers and ComfyUI load at full strength, or the whole pipeline."""
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
    sampling: Sampling = "configured",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Euler steps; by default the run's evaluation.steps.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Embedded guidance; by default the run's rollout.guidance.")
    ] = None,
    true_cfg: Annotated[
        float | None,
        typer.Option(min=1, help="Scale of true classifier-free guidance, 1 for none; by default as in evaluation."),
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="Negative prompt, with true classifier-free guidance.")
    ] = None,
    base: Annotated[
        bool, typer.Option("--base", help="Use the model before training, without trained weights.")
    ] = False,
    best_of: Annotated[
        int, typer.Option(min=1, help="Make this many edits and keep the one that the judge scores highest.")
    ] = 1,
    url: Annotated[
        str, typer.Option(envvar="REWARD_URL", help="URL of the reward service, for --best-of.")
    ] = DEFAULT_URL,
    method: Annotated[str, typer.Option(help="Scoring method, for --best-of.")] = DEFAULT_METHOD,
    task: Annotated[str | None, typer.Option(help="Task type, for --best-of.")] = None,
    api_key: ApiKey = None,
) -> None:
    """Edit an image with a run's model; with --best-of N, keep the best-scored of N edits.

    The whole image is edited, at about the run's number of pixels in the nearest shape, also by runs that crop
    (model.aspect); runs with model.aspect=stretch edit at their one size.
    """
    from edit_r1.shared.sources import FileSource  # noqa: PLC0415
    from edit_r1.workbench.clients.best_of_n import check_judge, rank  # noqa: PLC0415
    from edit_r1.workbench.editing.editor import Editor, find_weights, run_config  # noqa: PLC0415
    from edit_r1.workbench.editing.sampling import sampling_overrides  # noqa: PLC0415

    sources = [FileSource(path).open() for path in image]
    overrides = sampling_overrides(
        run_config(run_dir),
        sampling,
        steps=steps,
        guidance=guidance,
        true_cfg=true_cfg,
        negative_prompt=negative_prompt,
    )
    found = None if base else find_weights(run_dir, _weights(weights), step)
    if best_of > 1:
        check_judge(url, api_key, method)
    editor = Editor(run_config(run_dir, overrides), found)
    edits = [editor.edit(sources, instruction, seed=seed + i) for i in range(best_of)]
    best = 0
    if best_of > 1:
        ranked = rank(url, api_key, sources, edits, instruction=instruction, method=method, task=task)
        for place in ranked:
            typer.echo(f"seed {seed + place.index}: {place.told}")
        best = ranked[0].index
    edits[best].save(out)
    typer.echo(out)


def _weights(name: str) -> WeightsName:
    if name not in _WEIGHTS:
        raise ConfigError(f"--weights {name}: must be one of {', '.join(_WEIGHTS)}")
    return cast("WeightsName", name)
