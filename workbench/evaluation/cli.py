"""`edit-r1 evaluate imgedit`, `gedit` and `compare`: judge an editor on public benchmarks, or compare two editors.

The benchmark's files, the editor's files and the judge are all checked before a model is loaded.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from edit_r1.shared.connections.api_keys import checked_key
from edit_r1.shared.errors import ConfigError
from edit_r1.workbench.clients.chat import ChatClient, Endpoint
from edit_r1.workbench.clients.spending import PriceIn, PriceOut, Prices
from edit_r1.workbench.editing.cli import Sampling
from edit_r1.workbench.evaluation import evaluating
from edit_r1.workbench.evaluation.benchmarks import Benchmark, BenchmarkName, Language, read_gedit, read_imgedit
from edit_r1.workbench.evaluation.comparison_report import write_comparison
from edit_r1.workbench.evaluation.process_share import Share
from edit_r1.workbench.evaluation.rubrics import Prompts, load_prompts

if TYPE_CHECKING:
    from edit_r1.workbench.editing.editor import WeightsName
    from edit_r1.workbench.evaluation.editors import Subject

app = typer.Typer(
    help="Evaluate an editor on public benchmarks, or compare two editors.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Directory = Annotated[Path, typer.Argument(help="Directory of the benchmark as published by its authors.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Overrides of the editor's configuration, such as evaluation.true_cfg=4.0.")
]
Out = Annotated[Path, typer.Option(help="Output directory; rerun with the same one to resume.")]
Model = Annotated[
    str | None, typer.Option(help="Editor: a run directory, a checkpoint step-N, or a diffusers pipeline.")
]
Adapter = Annotated[Path | None, typer.Option(help="Directory of trained weights to use instead of the run's own.")]
Base = Annotated[bool, typer.Option("--base", help="Use the run's model before training, without trained weights.")]
Step = Annotated[int | None, typer.Option(help="Checkpoint step-N of the run; by default the newest complete one.")]
Weights = Annotated[str, typer.Option(help="The run's weights to use: ema, policy or old.")]
Pictures = Annotated[
    Path | None, typer.Option(help="Judge existing images in the official layout, instead of --model.")
]
Seed = Annotated[int, typer.Option(help="Seed of the noise, combined with each item's key.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only the first N items of each type (and language).")]
JudgeUrl = Annotated[
    str | None, typer.Option(help="Base URL of an OpenAI-compatible judge; without it, images are only generated.")
]
JudgeModel = Annotated[str | None, typer.Option(help="Model name of the judge at that URL.")]
JudgeKey = Annotated[str | None, typer.Option(help="Name of the environment variable with the judge's API key.")]
InFlight = Annotated[int, typer.Option(min=1, help="Maximum number of concurrent requests to the judge.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Maximum answer length of the judge in tokens.")]
Retry = Annotated[float, typer.Option(min=1, help="Seconds to keep retrying an unreachable or busy judge.")]
PromptsPath = Annotated[
    Path | None, typer.Option(help="Custom judge prompts: a directory of NAME.txt, or a JSON file.")
]
PerType = Annotated[int, typer.Option(min=0, help="Number of items per type in the gallery.")]
_WEIGHTS = ("ema", "policy", "old")
_LANGUAGES: dict[str, tuple[Language, ...]] = {"en": ("en",), "cn": ("cn",), "all": ("en", "cn")}


def run(arguments: Sequence[str]) -> None:
    """Run one of the commands; exits on `--help` and on usage errors. Raises EditR1Error."""
    app(list(arguments), prog_name="edit-r1 evaluate", standalone_mode=True)


@dataclass(frozen=True)
class _Order:
    """Command-line options of the editor and the judge."""

    out: Path
    overrides: Sequence[str]
    model: str | None
    adapter: Path | None
    base: bool
    step: int | None
    weights: str
    pictures: Path | None
    sampling: str
    seed: int
    judge_url: str | None
    judge_model: str | None
    judge_key_variable: str | None
    max_in_flight: int
    max_tokens: int
    retry_seconds: float
    prices: Prices
    gallery: int

    def check(self) -> None:
        """Check the options without reading any file. Raises ConfigError."""
        if (self.model is None) == (self.pictures is None):
            raise ConfigError("give either --model (edit and judge) or --pictures (judge existing images)")
        chosen = self.adapter or self.base or self.step is not None or self.sampling != "configured" or self.overrides
        if self.pictures is not None and chosen:
            raise ConfigError("--adapter, --base, --step, --sampling and key=value require --model, not --pictures")
        if self.base and self.adapter is not None:
            raise ConfigError("give either --adapter or --base")
        if (self.judge_url is None) != (self.judge_model is None):
            raise ConfigError("--judge-url and --judge-model must be given together")
        if self.pictures is not None and self.judge_url is None:
            raise ConfigError("--pictures needs a judge: --judge-url and --judge-model")
        if self.weights not in _WEIGHTS:
            raise ConfigError(f"--weights {self.weights}: must be one of {', '.join(_WEIGHTS)}")
        self.judge()

    def judge(self) -> Endpoint | None:
        """The judge's endpoint; None to only generate images. Raises ConfigError when the key variable is not set."""
        if self.judge_url is None or self.judge_model is None:
            return None
        name = self.judge_key_variable
        key = None if name is None else checked_key(os.environ.get(name), f"the variable {name}")
        if name is not None and not key:
            raise ConfigError(f"--judge-key-variable {name}: the environment variable is not set")
        return Endpoint(
            url=self.judge_url,
            model=self.judge_model,
            api_key=key,
            max_in_flight=self.max_in_flight,
            max_tokens=self.max_tokens,
            retry_seconds=self.retry_seconds,
        )

    def subject(self) -> Subject | None:
        """The editor to evaluate; None when judging existing images."""
        if self.model is None:
            return None
        from edit_r1.workbench.evaluation.editors import find_subject  # noqa: PLC0415 - judging and comparing need no torch

        return find_subject(
            self.model,
            adapter=self.adapter,
            base=self.base,
            weights=cast("WeightsName", self.weights),
            step=self.step,
            sampling=self.sampling,
            overrides=self.overrides,
        )


@app.command(
    "gedit",
    help="Evaluate on GEdit-Bench. Eleven tasks; consistency and quality from 0 to 10, and their geometric mean.",
)
@app.command(
    "imgedit",
    help="Evaluate on ImgEdit-Bench. Nine edit types; three scores from 1 to 5 each, and the mean over types.",
)
def evaluate(
    context: typer.Context,
    directory: Directory,
    overrides: Overrides = None,
    *,
    out: Out,
    model: Model = None,
    adapter: Adapter = None,
    base: Base = False,
    step: Step = None,
    weights: Weights = "ema",
    pictures: Pictures = None,
    origin: Annotated[
        Path | None, typer.Option(help="imgedit only: directory of the source images, if elsewhere.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="gedit only: en (the default), cn or all.")] = None,
    seed: Seed = 0,
    sampling: Sampling = "configured",
    limit: Limit = None,
    judge_url: JudgeUrl = None,
    judge_model: JudgeModel = None,
    judge_key_variable: JudgeKey = None,
    judge_in_flight: InFlight = 16,
    judge_max_tokens: MaxTokens = 1400,
    judge_retry_seconds: Retry = 120.0,
    price_in: PriceIn = None,
    price_out: PriceOut = None,
    prompts: PromptsPath = None,
    gallery: PerType = 8,
) -> None:
    """Judge an editor on the benchmark given by the command name."""
    name: BenchmarkName = "imgedit" if context.info_name == "imgedit" else "gedit"
    order = _Order(
        out=out,
        overrides=overrides or (),
        model=model,
        adapter=adapter,
        base=base,
        step=step,
        weights=weights,
        pictures=pictures,
        sampling=sampling,
        seed=seed,
        judge_url=judge_url,
        judge_model=judge_model,
        judge_key_variable=judge_key_variable,
        max_in_flight=judge_in_flight,
        max_tokens=judge_max_tokens,
        retry_seconds=judge_retry_seconds,
        prices=Prices(price_in, price_out),
        gallery=gallery,
    )
    order.check()
    if name == "imgedit":
        if language is not None:
            raise ConfigError("--language is only for gedit; ImgEdit-Bench is in English")
        benchmark = read_imgedit(directory, origin)
    else:
        if origin is not None:
            raise ConfigError("--origin is only for imgedit; GEdit-Bench files contain their images")
        if (language or "en") not in _LANGUAGES:
            raise ConfigError(f"--language {language}: must be one of {', '.join(_LANGUAGES)}")
        benchmark = read_gedit(directory, _LANGUAGES[language or "en"], evaluating.cache_directory(out) / "sources")
    texts = load_prompts(name, prompts)
    _evaluate(benchmark if limit is None else benchmark.first_of_each_type(limit), texts, order)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="Editor A: an output directory of edit-r1 evaluate.")],
    second: Annotated[Path, typer.Argument(help="Editor B: another one, with the same benchmark and judge.")],
    *,
    out: Annotated[Path, typer.Option(help="Output directory.")],
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    gallery: Annotated[
        int, typer.Option(min=0, help="Number of items shown of B's largest gains, and of its largest losses.")
    ] = 24,
) -> None:
    """Compare two editors on the same items. Reports win rates and differences with intervals, and writes a gallery."""
    typer.echo(write_comparison(first, second, out, seed=seed, shown=gallery))
    typer.echo(out)


def _evaluate(benchmark: Benchmark, prompts: Prompts, order: _Order) -> None:
    share = Share.from_environment()
    is_main = share.rank == 0
    endpoint, subject = order.judge() if is_main else None, order.subject()
    if is_main:
        typer.echo(benchmark.describe(), err=True)
        if endpoint is not None:
            asyncio.run(_check(endpoint))
    if order.pictures is not None:
        pictures = evaluating.find_pictures(benchmark, order.pictures, _tell)
        editor = {"pictures": str(order.pictures)}
    else:
        assert subject is not None  # noqa: S101 - ensured by `check`
        pictures = evaluating.make_pictures(benchmark, subject, order.out, seed=order.seed, share=share, tell=_tell)
        editor = dict(subject.identity)
    if not is_main:
        return
    if endpoint is not None:
        tables = evaluating.judge(
            benchmark,
            pictures,
            order.out,
            prompts=prompts,
            endpoint=endpoint,
            editor=editor,
            seed=order.seed,
            per_type=order.gallery,
            prices=order.prices,
            tell=_tell,
        )
        typer.echo(tables)
    typer.echo(order.out)


async def _check(endpoint: Endpoint) -> None:
    async with ChatClient(endpoint) as client:
        await client.check()


def _tell(line: str) -> None:
    typer.echo(line, err=True)
