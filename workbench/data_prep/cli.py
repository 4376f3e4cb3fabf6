"""`edit-r1 data ...`: the commands that make task lists, and the table each one prints at the end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from edit_r1.shared.connections.api_keys import checked_key
from edit_r1.shared.errors import ConfigError, DataError
from edit_r1.shared.images import content_hash
from edit_r1.trainer.machine.progress import Display
from edit_r1.trainer.tasks.rows import TaskRows, valid_rows
from edit_r1.trainer.tasks.task_line import TaskLine
from edit_r1.trainer.tasks.task_list import open_rows
from edit_r1.workbench.clients.chat import ChatClient, Endpoint
from edit_r1.workbench.clients.spending import PriceIn, PriceOut, Prices, after, before, estimate
from edit_r1.workbench.data_prep import boxes as box_filter
from edit_r1.workbench.data_prep import check as checking
from edit_r1.workbench.data_prep import mix as mixing
from edit_r1.workbench.data_prep import rationality as judging
from edit_r1.workbench.data_prep import redbox as red_boxes
from edit_r1.workbench.data_prep import text_edit as text_edits
from edit_r1.workbench.data_prep.contact_sheet import SheetSample
from edit_r1.workbench.data_prep.formats import ObjectsLine, WordsLine
from edit_r1.workbench.data_prep.input_lists import Examined, InputList, Line, as_model
from edit_r1.workbench.data_prep.pictures import Renaming
from edit_r1.workbench.data_prep.resumable_jobs import Counts, Job, Outcome, process_in_order
from edit_r1.workbench.data_prep.task_writers import task_writer
from edit_r1.workbench.data_prep.terminal import (
    ColumnNames,
    Input,
    Out,
    Restart,
    Root,
    Seed,
    TaskInput,
    read_columns,
    run_job,
    show_counts,
    show_summary,
)

T = TypeVar("T")
L = TypeVar("L", bound=str)
_FAULTS_SHOWN = 20

app = typer.Typer(
    help="Prepare training data: task lists from annotated images.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def run(arguments: Sequence[str], *, more: Sequence[Callable[..., None]] = ()) -> None:
    """Run one of the commands; exits on `--help` and on usage errors. Raises EditR1Error.

    Args:
        arguments: of the command line, after `edit-r1 data`.
        more: commands of the worlds, which build on the workbench and so cannot be imported here.

    """
    for command in more:
        app.command()(command)
    app(list(arguments), prog_name="edit-r1 data", standalone_mode=True)


@app.command()
def boxes(
    source: Input,
    *,
    out: Out,
    min_area: Annotated[float, typer.Option(help="Minimum box area as a fraction of the image.")] = 0.01,
    max_area: Annotated[float, typer.Option(help="Maximum box area as a fraction of the image.")] = 0.5,
    restart: Restart = False,
) -> None:
    """Filter objects by box area. Keeps those within the limits, and tasks all of whose objects are."""
    limits = box_filter.AreaLimits(min_area, max_area)
    records = InputList(source, box_filter.parse)
    examined = _examine(records, out)
    rename = Renaming(source.parent, out.parent)
    job = _job("boxes", out, {source: examined}, {"min_area": min_area, "max_area": max_area}, restart)
    run_job(job, records.lines, lambda line: box_filter.keep(line, limits, source.parent, rename), examined.num_lines)


@app.command()
def redbox(
    source: Input,
    *,
    out: Out,
    images: Annotated[
        Path | None, typer.Option(help="Directory of the new images; by default OUTPUT_images next to the list.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="Task kind: adjust, remove or replace; repeat for several. By default all, equally often."),
    ] = None,
    nouns: Annotated[
        Path | None, typer.Option(help="File of replacement nouns, one per line; by default the list's labels.")
    ] = None,
    per_picture: Annotated[int, typer.Option(min=1, help="Maximum number of objects per image that become tasks.")] = 1,
    line_width: Annotated[
        float, typer.Option(min=0, max=0.1, help="Width of the red line as a fraction of the shorter side.")
    ] = red_boxes.Choices.line_fraction,
    seed: Seed = 0,
    restart: Restart = False,
) -> None:
    """Make red-box tasks. Draws a box around an object and writes an instruction to adjust, remove or replace it."""
    records = InputList(source, as_model(ObjectsLine))
    examined = _examine(records, out)
    kinds = _some_of("--kind", kind, red_boxes.KINDS)
    words: tuple[str, ...] = ()
    if "replace" in kinds:
        labels = {found.label for line in records.lines() for found in line.value.objects} if nouns is None else ()
        words = red_boxes.read_nouns(nouns) if nouns else tuple(sorted(labels))
    choices = red_boxes.Choices(kinds, words, per_picture, line_width, seed)
    pictures = images or out.parent / f"{out.stem}_images"
    pictures.mkdir(parents=True, exist_ok=True)
    places = red_boxes.Places(source.parent, pictures, Renaming(pictures, out.parent))
    options = {
        "images": _name(pictures, out),
        "kinds": list(kinds),
        "nouns": content_hash("\n".join(words).encode()),
        "per_picture": per_picture,
        "line_width": line_width,
        "seed": seed,
    }
    job = _job("redbox", out, {source: examined}, options, restart)
    run_job(job, records.lines, lambda line: red_boxes.draw(line, choices, places), examined.num_lines)


@app.command()
def text_edit(
    source: Input,
    *,
    out: Out,
    operation: Annotated[
        list[str] | None,
        typer.Option(
            help="Change: substitute, delete, insert or swap; repeat for several. By default all, equally often."
        ),
    ] = None,
    max_changes: Annotated[int, typer.Option(min=1, help="Maximum number of characters changed per word.")] = 2,
    min_length: Annotated[int, typer.Option(min=1, help="Minimum word length.")] = 3,
    per_picture: Annotated[int, typer.Option(min=1, help="Maximum number of words per image that become tasks.")] = 1,
    seed: Seed = 0,
    restart: Restart = False,
) -> None:
    """Make text-editing tasks. They change a few characters of a word: replace the text "SALE" with "SALF"."""
    records = InputList(source, as_model(WordsLine))
    examined = _examine(records, out)
    operations = _some_of("--operation", operation, text_edits.OPERATIONS)
    choices = text_edits.Choices(operations, max_changes, min_length, per_picture, seed)
    rename = Renaming(source.parent, out.parent)
    options = {
        "operations": list(operations),
        "max_changes": max_changes,
        "min_length": min_length,
        "per_picture": per_picture,
        "seed": seed,
    }
    job = _job("text-edit", out, {source: examined}, options, restart)
    run_job(job, records.lines, lambda line: text_edits.rewrite(line, choices, rename), examined.num_lines)


@app.command()
def rationality(
    source: Input,
    *,
    out: Out,
    url: Annotated[str, typer.Option(help="Base URL of an OpenAI-compatible API, such as http://gpu-1:8000/v1.")],
    model: Annotated[str, typer.Option(help="Model name at that URL.")],
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="OPENAI_API_KEY",
            callback=lambda value: checked_key(value, "--api-key or OPENAI_API_KEY"),
            help="API key for that URL.",
        ),
    ] = None,
    question: Annotated[
        Path, typer.Option(help="File with the question to ask; must contain {instruction}.", show_default=False)
    ] = judging.QUESTION_PATH,
    in_flight: Annotated[int, typer.Option(min=1, help="Maximum number of concurrent requests.")] = 8,
    timeout: Annotated[float, typer.Option(min=0.1, help="Timeout of one attempt, in seconds.")] = 120.0,
    retry: Annotated[float, typer.Option(min=0.1, help="Seconds to keep retrying transient errors.")] = 300.0,
    max_pixels: Annotated[int, typer.Option(min=1024, help="Downscale images with more pixels than this.")] = 1_000_000,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Maximum answer length in tokens; a model that thinks needs hundreds.")
    ] = judging.ANSWER_TOKENS,
    price_in: PriceIn = None,
    price_out: PriceOut = None,
    restart: Restart = False,
) -> None:
    """Keep tasks that make sense for their image. A multimodal model answers Yes or No for each."""
    records = InputList(source, as_model(TaskLine))
    asked = judging.Question(judging.read_question(question), max_pixels)
    examined = _examine(records, out)
    endpoint = Endpoint(
        url=url,
        model=model,
        api_key=api_key,
        max_in_flight=in_flight,
        max_tokens=max_tokens,
        retry_seconds=retry,
        timeout_seconds=timeout,
    )
    options = {"model": model, "question": content_hash(asked.text.encode()), "max_pixels": max_pixels}
    job = _job("rationality", out, {source: examined}, options, restart)
    display, prices = Display(visible=True), Prices(price_in, price_out)
    directory, rename = source.parent, Renaming(source.parent, out.parent)

    def lines(start: int) -> Iterable[Line[TaskLine]]:
        num_requests = examined.num_lines - start
        found = judging.sizes(records.lines(start), asked, directory)
        display.say(before(num_requests, estimate(found, num_requests, max_tokens), prices))
        return records.lines(start)

    async def ask(advance: Callable[[int], Any]) -> Counts:
        async with ChatClient(endpoint) as client:
            try:
                return await process_in_order(
                    job,
                    lines,
                    partial(
                        judging.keep, client=client, question=asked, directory=directory, rename=rename, say=display.say
                    ),
                    # More than the number of concurrent requests, so that one slow answer does not block the next ones.
                    num_waiting=4 * in_flight,
                    say=display.say,
                    advance=advance,
                )
            finally:
                display.say(after(client.used, prices))

    with display.live(), display.bar(job.command, examined.num_lines) as advance:
        counts = asyncio.run(ask(advance))
    show_counts(job, counts)


@app.command()
def mix(
    sources: Annotated[list[Path], typer.Argument(metavar="INPUT.jsonl", help="Input task lists.")],
    *,
    out: Out,
    cap: Annotated[
        list[str] | None,
        typer.Option(
            help="TASK=N: at most N tasks of a type; TASK=all: no limit. By default reference=600, extract=600."
        ),
    ] = None,
    seed: Seed = 0,
    restart: Restart = False,
) -> None:
    """Merge task lists. The result is shuffled, with a cap per task type."""
    caps = mixing.read_caps(cap or [])
    lists = [InputList(path, as_model(TaskLine)) for path in dict.fromkeys(sources)]
    examined = {one.path: _examine(one, out) for one in lists}
    job = _job("mix", out, examined, {"caps": dict(sorted(caps.items())), "seed": seed}, restart)
    mixture = mixing.choose(lists, caps, seed, out.parent)

    def texts(start: int) -> Iterable[str]:
        return mixing.fetch(lists, mixture.places[start:], out.parent)

    counts = run_job(job, texts, lambda text: Outcome((text,)), len(mixture.places), show=False)
    show_counts(job, counts.model_copy(update={"read": mixture.num_read, "dropped": mixture.dropped}))


@app.command()
def check(
    source: TaskInput,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="OUTPUT.jsonl|.parquet", help="Output list of the valid tasks; by default none is written."
        ),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="SHEET.png", help="Output contact sheet; by default none is drawn.")
    ] = None,
    sheet_count: Annotated[int, typer.Option(min=1, help="Number of tasks on the contact sheet.")] = 48,
    column: ColumnNames = None,
    root: Root = None,
    restart: Restart = False,
) -> None:
    """Check a task list. Decodes every image, finds invalid and duplicate lines; exits with status 1 on errors."""
    rows = open_rows(source, root, read_columns(column or []), key="--column")
    num_rows = _count(rows, out, restart)
    display, summary, sample = Display(visible=True), checking.Summary(), SheetSample(sheet_count)
    num_told = 0
    with ExitStack() as stack:
        stack.enter_context(display.live())
        advance = stack.enter_context(display.bar("check", num_rows))
        writer = stack.enter_context(task_writer(out, rows.root)) if out else None
        for finding in checking.examine(rows, summary):
            advance(1)
            row, sources = finding.row, finding.row.sources(rows.root)
            if finding.fault is None:
                sample.add(row.line, sources[0])
                if writer:
                    writer.add(row.line, sources)
            elif (num_told := num_told + 1) <= _FAULTS_SHOWN:
                display.say(f"{source}{':' if rows.unit == 'line' else ' row '}{row.number}: {finding.fault}")
    if sheet is not None:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        sample.draw().save(sheet)
    show_summary(source, summary)
    raise typer.Exit(code=int(bool(summary.faults)))


@app.command()
def convert(
    source: TaskInput,
    *,
    out: Annotated[
        Path, typer.Option(metavar="OUTPUT.jsonl|.parquet", help="Output list; its ending says the format.")
    ],
    column: ColumnNames = None,
    root: Root = None,
    restart: Restart = False,
) -> None:
    """Convert a task list. To parquet with the images inside, or to JSON lines with embedded images as files."""
    rows = open_rows(source, root, read_columns(column or []), key="--column")
    num_rows = _count(rows, out, restart)
    display = Display(visible=True)
    with display.live(), display.bar("convert", num_rows) as advance, task_writer(out, rows.root) as writer:
        for row in valid_rows(rows):
            writer.add(row.line, row.sources(rows.root))
            advance(1)
    typer.echo(f"{num_rows:,} tasks: {out}")


def _count(rows: TaskRows, out: Path | None, restart: bool) -> int:
    """The number of tasks of a whole, valid list. Raises DataError, also for an output that cannot be written."""
    if out is not None and out.resolve() == Path(rows.name).resolve():
        raise DataError(f"--out {out} is the input list; choose another")
    if out is not None and out.exists() and not restart:
        raise DataError(f"{out} exists; choose another --out, or pass --restart to replace it")
    return sum(1 for _ in valid_rows(rows))


def _examine(records: InputList[Any], out: Path | None) -> Examined:
    """Check the whole list before anything is written. Raises DataError."""
    if out is not None and out.resolve() == records.path.resolve():
        raise DataError(f"--out {out} is the input list; choose another")
    return records.examine()


def _job(command: str, out: Path, inputs: Mapping[Path, Examined], options: Mapping[str, Any], restart: bool) -> Job:
    return Job(command, out, {_name(path, out): one.digest for path, one in inputs.items()}, options, restart)


def _some_of(option: str, names: Sequence[str] | None, known: tuple[L, ...]) -> tuple[L, ...]:
    """The given names in canonical order; all when none is given. Raises ConfigError."""
    strange = [name for name in names or () if name not in known]
    if strange:
        raise ConfigError(f"{option} {strange[0]}: must be one of {', '.join(known)}")
    return tuple(name for name in known if name in names) if names else known


def _name(path: Path, out: Path) -> str:
    """A path relative to the output's directory, independent of the working directory."""
    return os.path.relpath(path.resolve(), out.parent.resolve())
