"""`edit-r1 align`: a running judge's methods beside what people chose. Preference data in, a report out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from shared.client import RewardClient
from shared.errors import ConfigError, DataError
from shared.options import DEFAULT_URL, ApiKey, Url
from shared.preferences import PreferenceItem
from shared.schemas import ServiceInfo
from trainer.alignment import report
from trainer.alignment.readers import FORMATS, read_preferences
from trainer.alignment.results import ALL, Scores, gather
from trainer.alignment.scoring import ScoreStore, edit_keys, score_items

ALL_METHODS = "all"
NEEDS_OTHERS = "composite"
"""The method that has no score of its own."""
_READY_SECONDS = 300.0
_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def align(arguments: Sequence[str]) -> None:
    """Run the command with these arguments; ends the process on `--help` and wrong usage. Raises EditR1Error."""
    _app(list(arguments), prog_name="edit-r1 align", standalone_mode=True)


@_app.command()
def _align(
    data: Annotated[Path, typer.Argument(help="Preference data: a file, or a directory of a published set's files.")],
    *,
    url: Url = DEFAULT_URL,
    methods: Annotated[
        str, typer.Option(help="Scoring methods, comma separated, or `all` of the service's.")
    ] = ALL_METHODS,
    form: Annotated[str, typer.Option("--format", help=f"jsonl (ours), or {', '.join(FORMATS)}.")] = "jsonl",
    out: Annotated[Path, typer.Option(help="Directory of the report; scores in it are not asked for again.")] = Path(
        "runs/align"
    ),
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first so many rows only.")] = None,
    api_key: ApiKey = None,
    in_flight: Annotated[int, typer.Option(min=1, help="Groups on the wire at once.")] = 16,
) -> None:
    """Compare a judge's scores with what people chose: accuracy with intervals, tests, distributions, cost."""
    if form != "jsonl" and form not in FORMATS:
        raise ConfigError(f"--format {form}: one of jsonl, {', '.join(FORMATS)}")
    read = partial(_first, limit, lambda: read_preferences(data, form))
    num_edits, num_judgements = _survey(read)
    if not num_judgements:
        raise DataError(f"{data}: no judgement by people in it")
    out.mkdir(parents=True, exist_ok=True)
    store = ScoreStore(out / "scores.jsonl")
    console = Console()
    info, names = asyncio.run(_score_all(read, store, _Service(url, api_key, in_flight), methods, num_edits))

    def scores_of(item: PreferenceItem) -> Scores:
        return {name: [store.score(key) for key in edit_keys(item, name, info.model)] for name in names}

    evidence = gather(read(), scores_of, names)
    prices = {name: _price(read, store, name, info.model) for name in names}
    found = report.Alignment.of(data.name, info.model, evidence, prices)
    report.write(found, out)
    console.print(_table(found))
    console.print(f"{evidence.num_items} items, {len(evidence.human)} pairs, judge {info.model}", highlight=False)
    console.print(
        f"report: {out / report.HTML_NAME}   figures: {out / report.JSON_NAME}", soft_wrap=True, highlight=False
    )


class _Service:
    """Where to ask and how."""

    def __init__(self, url: str, api_key: str | None, in_flight: int) -> None:
        self._url, self._api_key, self._in_flight = url, api_key, in_flight

    def client(self) -> RewardClient:
        """A connection."""
        return RewardClient(self._url, api_key=self._api_key, max_in_flight=self._in_flight)


async def _score_all(
    read: Callable[[], Iterator[PreferenceItem]], store: ScoreStore, service: _Service, methods: str, num_edits: int
) -> tuple[ServiceInfo, list[str]]:
    async with service.client() as client:
        info = await client.wait_ready(_READY_SECONDS)
        names = _chosen(methods, info)
        with Progress(transient=True) as progress:
            for name in names:
                tell = partial(progress.advance, progress.add_task(name, total=num_edits))
                await score_items(read, client, info, name, store=store, tell=tell)
        return info, names


def _chosen(methods: str, info: ServiceInfo) -> list[str]:
    known = [name for name in info.methods if name != NEEDS_OTHERS]
    if methods == ALL_METHODS:
        return known
    names = [name.strip() for name in methods.split(",")]
    for name in names:
        if name not in known:
            raise ConfigError(f"--methods {name}: the service knows {', '.join(known)}")
    return names


def _first(limit: int | None, read: Callable[[], Iterator[PreferenceItem]]) -> Iterator[PreferenceItem]:
    for number, item in enumerate(read()):
        if number == limit:
            return
        yield item


def _survey(read: Callable[[], Iterator[PreferenceItem]]) -> tuple[int, int]:
    """(edits, judgements): all of the data is read once before anything is asked."""
    edits = judgements = 0
    for item in read():
        edits += len(item.edits)
        judgements += len(item.pairs) + len(item.ratings)
    return edits, judgements


def _price(read: Callable[[], Iterator[PreferenceItem]], store: ScoreStore, method: str, model: str) -> report.Price:
    cost = store.cost(method)
    found = [store.get(key) for item in read() for key in edit_keys(item, method, model)]
    tokens = [one.tokens for one in found if one is not None]
    return report.Price(
        cost.seconds / cost.edits if cost.edits else None, sum(tokens) / len(tokens) if tokens else None
    )


def _table(found: report.Alignment) -> Table:
    """What fits a terminal; the report has the rest."""
    table = Table(title="pairs ordered as people do")
    for heading in ("method", "strict", "95 %", "half", "ties", "none", "s", "tokens"):
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    for method in found.ranked:
        overall, price = found.tasks[method][ALL], found.prices[method]
        table.add_row(
            method,
            report.figure(overall.strict.value),
            f"{report.figure(100 * overall.strict.low, 0)}-{report.figure(100 * overall.strict.high, 0)}",
            report.figure(overall.half.value),
            report.figure(overall.tie_rate, 2),
            str(overall.num_missing),
            report.figure(price.seconds),
            report.figure(price.tokens, 0),
        )
    table.caption = "half: equal scores count half; ties, none: equal, missing; s, tokens: of one edit"
    return table
