"""`edit-r1 align`: compares a running judge's methods with human preference data and writes a report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from edit_r1.shared.client import RewardClient
from edit_r1.shared.errors import ConfigError, DataError
from edit_r1.shared.golden.edits import MIN_SCORE_MASS, low_mass
from edit_r1.shared.preferences import PreferenceItem
from edit_r1.shared.schemas import ServiceInfo
from edit_r1.workbench.alignment import report
from edit_r1.workbench.alignment.readers import FORMATS, read_preferences
from edit_r1.workbench.alignment.results import ALL, Evidence, Scores, gather
from edit_r1.workbench.alignment.scoring import Cost, Found, ScoreStore, edit_keys, score_items
from edit_r1.workbench.clients.options import DEFAULT_URL, ApiKey, Url

_ALL_METHODS = "all"
_NEEDS_OTHERS = "composite"
"""The method without scores of its own."""
_READY_SECONDS = 300.0
_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def align(arguments: Sequence[str]) -> None:
    """Run the command with these arguments; exits on `--help` and on usage errors. Raises EditR1Error."""
    _app(list(arguments), prog_name="edit-r1 align", standalone_mode=True)


@_app.command()
def _align(
    data: Annotated[Path, typer.Argument(help="Preference data: a file, or a directory of a published data set.")],
    *,
    url: Url = DEFAULT_URL,
    methods: Annotated[str, typer.Option(help="Scoring methods, comma-separated, or `all`.")] = _ALL_METHODS,
    form: Annotated[
        str, typer.Option("--format", help=f"Format of the data: jsonl (ours), {', '.join(FORMATS)}.")
    ] = "jsonl",
    out: Annotated[Path, typer.Option(help="Output directory of the report; scores already in it are reused.")] = Path(
        "runs/align"
    ),
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first N rows.")] = None,
    api_key: ApiKey = None,
    in_flight: Annotated[int, typer.Option(min=1, help="Maximum number of groups in flight.")] = 16,
    min_score_mass: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum mean probability of a method's labels; below it, exit 1.")
    ] = MIN_SCORE_MASS,
) -> None:
    """Compare a judge's scores with human preferences: accuracy with intervals, tests, distributions and cost."""
    if form != "jsonl" and form not in FORMATS:
        raise ConfigError(f"--format {form}: must be one of jsonl, {', '.join(FORMATS)}")

    def read() -> Iterator[PreferenceItem]:
        return islice(read_preferences(data, form), limit)

    num_edits, num_judgements = _survey(read)
    if not num_judgements:
        raise DataError(f"{data} contains no human judgements")
    out.mkdir(parents=True, exist_ok=True)
    store = ScoreStore(out / "scores.jsonl")
    console = Console()
    connect = partial(RewardClient, url, api_key=api_key, max_in_flight=in_flight)
    info, names = asyncio.run(_score_all(read, store, connect, methods, num_edits))
    evidence, answering = _gather(read(), store, names, info)
    found = report.Alignment.of(data.name, info.model, evidence, answering)
    report.write(found, out)
    console.print(_table(found))
    console.print(f"{evidence.num_items} items, {len(evidence.human)} pairs, judge {info.model}", highlight=False)
    console.print(
        f"report: {out / report.HTML_NAME}   figures: {out / report.JSON_NAME}", soft_wrap=True, highlight=False
    )
    weak = {name: one.mass for name, one in answering.items() if one.mass is not None and one.mass < min_score_mass}
    for name, mass in weak.items():
        console.print(f"FAILED: {low_mass(name, mass, min_score_mass)}", highlight=False)
    if weak:
        raise typer.Exit(1)


async def _score_all(
    read: Callable[[], Iterator[PreferenceItem]],
    store: ScoreStore,
    connect: Callable[[], RewardClient],
    methods: str,
    num_edits: int,
) -> tuple[ServiceInfo, list[str]]:
    async with connect() as client:
        info = await client.wait_ready(_READY_SECONDS)
        names = _chosen(methods, info)
        with Progress(transient=True) as progress:
            for name in names:
                tell = partial(progress.advance, progress.add_task(name, total=num_edits))
                await score_items(read, client, info, name, store=store, tell=tell)
        return info, names


def _chosen(methods: str, info: ServiceInfo) -> list[str]:
    known = [name for name in info.methods if name != _NEEDS_OTHERS]
    if methods == _ALL_METHODS:
        return known
    names = [name.strip() for name in methods.split(",")]
    for name in names:
        if name not in known:
            raise ConfigError(f"--methods {name}: the service offers {', '.join(known)}")
    return names


def _survey(read: Callable[[], Iterator[PreferenceItem]]) -> tuple[int, int]:
    """Count (edits, judgements), reading all data once before anything is scored."""
    edits = judgements = 0
    for item in read():
        edits += len(item.edits)
        judgements += len(item.pairs) + len(item.ratings)
    return edits, judgements


def _gather(
    items: Iterable[PreferenceItem], store: ScoreStore, methods: Sequence[str], info: ServiceInfo
) -> tuple[Evidence, dict[str, report.Answering]]:
    """Gather judgements with scores, and the cost of each method; the items are read once."""
    answers: dict[str, list[Found]] = {method: [] for method in methods}

    def scores_of(item: PreferenceItem) -> Scores:
        scores = {}
        for method in methods:
            found = [store.get(key) for key in edit_keys(item, method, info)]
            answers[method] += [one for one in found if one is not None]
            scores[method] = [None if one is None else one.score for one in found]
        return scores

    evidence = gather(items, scores_of, methods)
    return evidence, {method: _answering(store.cost(method), answers[method]) for method in methods}


def _answering(cost: Cost, answers: Sequence[Found]) -> report.Answering:
    masses = [one.mass for one in answers if one.mass is not None]
    return report.Answering(
        seconds=cost.seconds / cost.edits if cost.edits else None,
        tokens=fmean(one.tokens for one in answers) if answers else None,
        mass=fmean(masses) if masses else None,
    )


def _table(found: report.Alignment) -> Table:
    """The figures that fit a terminal; the report has the rest."""
    table = Table(title="pairwise agreement with humans")
    for heading in ("method", "strict", "95 %", "half", "ties", "none", "s", "tokens", "mass"):
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    for method in found.ranked:
        overall, answering = found.tasks[method][ALL], found.answering[method]
        table.add_row(
            method,
            report.figure(overall.strict.estimate),
            f"{report.figure(100 * overall.strict.low, 0)}-{report.figure(100 * overall.strict.high, 0)}",
            report.figure(overall.half.estimate),
            report.figure(overall.tie_rate, 2),
            str(overall.num_missing),
            report.figure(answering.seconds),
            report.figure(answering.tokens, 0),
            report.figure(answering.mass),
        )
    table.caption = "half: equal scores count half; ties, none: equal, missing; s, tokens: per edit"
    return table
