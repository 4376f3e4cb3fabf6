"""Shared by the `edit-r1 data` commands: their options, a progress bar, and the tables printed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from edit_r1.shared.errors import ConfigError
from edit_r1.trainer.machine.progress import Display
from edit_r1.trainer.tasks.columns import Columns
from edit_r1.workbench.data_prep.check import Summary
from edit_r1.workbench.data_prep.formats import TASK_TYPES
from edit_r1.workbench.data_prep.mix import NO_TASK
from edit_r1.workbench.data_prep.resumable_jobs import Counts, Job, Outcome, process

T = TypeVar("T")
_SIZES_SHOWN = 8
_SEVERAL = ("image", "metadata")
"""Keys that several columns may have."""

Input = Annotated[Path, typer.Argument(metavar="INPUT.jsonl", help="Input list.")]
Out = Annotated[Path, typer.Option(metavar="OUTPUT.jsonl", help="Output list.")]
TaskInput = Annotated[
    str,
    typer.Argument(metavar="LIST", help="Task list: JSON lines, parquet, .tar shards, a directory, hub:OWNER/NAME."),
]
ColumnNames = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=COLUMN",
        help="Column that a task is read from: prompt, image, requirement, task or metadata; repeat for several.",
    ),
]
Root = Annotated[
    Path | None, typer.Option(help="Directory that image paths are relative to; by default that of the list.")
]
Restart = Annotated[bool, typer.Option("--restart", help="Start over and replace existing output.")]
Seed = Annotated[int, typer.Option(help="Random seed.")]


def read_columns(given: Sequence[str]) -> Columns | None:
    """The columns of `KEY=COLUMN` options; None when there are none. Raises ConfigError."""
    if not given:
        return None
    values: dict[str, list[str]] = {}
    for text in given:
        key, equals, column = text.partition("=")
        if not equals or not column or key not in Columns.model_fields:
            raise ConfigError(f"--column {text!r} must be KEY=COLUMN with KEY one of {', '.join(Columns.model_fields)}")
        values.setdefault(key, []).append(column)
    return Columns.model_validate({key: one if key in _SEVERAL else one[-1] for key, one in values.items()})


def run_job(
    job: Job, items: Callable[[int], Iterable[T]], step: Callable[[T], Outcome], total: int, *, show: bool = True
) -> Counts:
    """Process the items under a progress bar; prints the counts at the end if `show`."""
    display = Display(visible=True)
    with display.live(), display.bar(job.command, total) as advance:
        counts = process(job, items, step, display.say, advance)
    if show:
        show_counts(job, counts)
    return counts


def show_counts(job: Job, counts: Counts) -> None:
    """Print the counts of lines read, written and dropped, with reasons."""
    table = _table()
    table.add_row("read", f"{counts.read:,}")
    table.add_row("written", f"{counts.written:,}")
    for reason, number in sorted(counts.dropped.items(), key=lambda one: (-one[1], one[0])):
        table.add_row(f"dropped: {reason}", f"{number:,}")
    _print(f"{job.command}: {job.out}", table)


def show_summary(source: str, summary: Summary) -> None:
    """Print the findings of `data check`: tasks by type, image sizes, faults."""
    table = _table()
    table.add_row("read", f"{summary.num_read:,}")
    table.add_row("sound", f"{summary.by_task.total():,}", end_section=True)
    for task, number in summary.by_task.most_common():
        known = task in TASK_TYPES or task == NO_TASK
        table.add_row(f"task {task}{'' if known else ' (the service has no task prompt for it)'}", f"{number:,}")
    table.add_section()
    sizes = summary.by_size.most_common()
    for (width, height), number in sizes[:_SIZES_SHOWN]:
        table.add_row(f"image {width}x{height}", f"{number:,}")
    if len(sizes) > _SIZES_SHOWN:
        rest = sum(number for _, number in sizes[_SIZES_SHOWN:])
        table.add_row(f"images of {len(sizes) - _SIZES_SHOWN} other sizes", f"{rest:,}")
    table.add_section()
    for fault, number in summary.faults.most_common():
        table.add_row(f"fault: {fault}", f"{number:,}", style="red")
    _print(f"check: {source}", table)


def _table() -> Table:
    table = Table(show_header=False)
    table.add_column("what", overflow="fold")
    table.add_column("count", justify="right")
    return table


def _print(title: str, table: Table) -> None:
    console = Console()
    console.print(title, markup=False, highlight=False, soft_wrap=True)
    console.print(table, markup=False)
