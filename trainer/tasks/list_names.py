"""What the name of a task list means: JSON lines, data files, a directory with a data set, or a data set of the Hub.

    train.jsonl    data/*.parquet    shards/{000..099}.tar    my_set    my_set:train    hub:owner/name:train[:95%]

A split is written as `datasets` writes it: `train`, `train[:95%]`, `train+validation`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edit_r1.shared.errors import DataError

HUB = "hub:"
BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset"}
"""Name in `datasets` of what reads a file, by its ending."""
_HUB_NAME = re.compile(r"(?P<path>[^/@:]+/[^/@:]+)(/(?P<subset>[^@:]+))?(@(?P<revision>[^:]+))?(:(?P<split>.+))?")


@dataclass(frozen=True)
class HubName:
    """A data set of the Hub; None takes the default, for the split the only one."""

    path: str
    subset: str | None
    revision: str | None
    split: str | None


def hub_name(name: str) -> HubName:
    """Parse `hub:OWNER/NAME[/SUBSET][@REVISION][:SPLIT]`. Raises DataError."""
    parts = _HUB_NAME.fullmatch(name.removeprefix(HUB))
    if parts is None:
        raise DataError(f"task list {name!r} must be hub:OWNER/NAME[/SUBSET][@REVISION][:SPLIT]")
    return HubName(**parts.groupdict())


def directory_and_split(name: str) -> tuple[Path, str | None]:
    """The parts of `DIRECTORY[:SPLIT]`."""
    path, colon, split = name.partition(":")
    return (Path(path), split) if colon and not Path(name).exists() else (Path(name), None)


def is_data_set(name: str) -> bool:
    """Whether `datasets` reads a list of this name; otherwise it is a file of JSON lines."""
    return name.startswith(HUB) or Path(name).suffix in BUILDERS or directory_and_split(name)[0].is_dir()
