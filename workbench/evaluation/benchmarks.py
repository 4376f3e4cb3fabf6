"""Readers of public benchmarks as published by their authors: ImgEdit-Bench (basic) and GEdit-Bench.

They take a downloaded directory and return typed items, all checked before any model is loaded.

    ImgEdit   basic_edit.json (or singleturn.json) {"0": {"id": "animal/1.jpg", "prompt": ..., "edit_type": ...}, ...}
              and the images named by `id`, in the directory, its singleturn/ or its origin/
    GEdit     the data set's parquet or arrow files (needs pyarrow), with embedded images; or an export of them:
              gedit.jsonl with the same fields, where input_image is a path within the directory
"""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edit_r1.shared.errors import DataError
from edit_r1.shared.files import write_bytes
from edit_r1.shared.images import content_hash
from edit_r1.shared.jsonl import read_objects
from edit_r1.workbench.evaluation.published import IMGEDIT_COLUMNS

BenchmarkName = Literal["imgedit", "gedit"]
Language = Literal["en", "cn"]

GEDIT_TASKS = (
    "background_change",
    "color_alter",
    "material_alter",
    "motion_change",
    "ps_human",
    "style_change",
    "subject-add",
    "subject-remove",
    "subject-replace",
    "text_change",
    "tone_transfer",
)
NUM_ITEMS: Mapping[BenchmarkName, int] = {"imgedit": 737, "gedit": 606}
"""Number of items of the published benchmarks; for GEdit, per language."""
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

_IMGEDIT_LISTS = ("basic_edit.json", "singleturn.json", "Basic/basic_edit.json")
_IMGEDIT_FOLDERS = ("", "singleturn", "origin", "images", "../singleturn")
_FAULTS_SHOWN = 10
_ARROW_FILE = b"ARROW1"
_ARROW_COLUMNS = ("task_type", "key", "instruction", "instruction_language", "input_image", "Intersection_exist")


@dataclass(frozen=True)
class Item:
    """One edit of a benchmark."""

    key: str
    """Unique name in the benchmark; for GEdit, task/language/key."""
    type: str
    instruction: str
    source: Path
    language: Language = "en"
    intersection: bool = True
    """GEdit: whether it belongs to the intersection set, which all compared editors accepted."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's items."""

    name: BenchmarkName
    items: tuple[Item, ...]
    types: tuple[str, ...]
    """All types of the benchmark, in the papers' order."""
    origin: str
    """Description of the files read."""

    def official_path(self, item: Item) -> Path:
        """Path, relative to the results directory, where the authors' scripts look for an edited image."""
        return Path(f"{item.key}.png" if self.name == "imgedit" else f"fullset/{item.key}.png")

    def describe(self) -> str:
        """One-line description; points out an incomplete benchmark."""
        counts = Counter(item.type for item in self.items)
        languages = list(dict.fromkeys(item.language for item in self.items))
        expected = NUM_ITEMS[self.name] * len(languages)
        whole = "" if len(self.items) == expected else f", INCOMPLETE: the full benchmark has {expected}"
        types = ", ".join(f"{name} {counts[name]}" for name in self.types if counts[name])
        return f"{self.name} ({'+'.join(languages)}) from {self.origin}: {len(self.items)} items ({types}){whole}"

    def first_of_each_type(self, limit: int) -> Benchmark:
        """The first `limit` items of each type and language."""
        seen: Counter[tuple[str, str]] = Counter()
        kept = []
        for item in self.items:
            seen[item.type, item.language] += 1
            if seen[item.type, item.language] <= limit:
                kept.append(item)
        return Benchmark(self.name, tuple(kept), self.types, self.origin)


class _ImgEditLine(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    edit_type: Literal["add", "adjust", "extract", "replace", "remove", "background", "style", "compose", "action"]


class _GEditRow(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    task_type: str
    key: str = Field(pattern=r"^[\w.\-]+$")
    instruction: str = Field(min_length=1)
    instruction_language: Language
    input_image: Any
    intersection_exist: bool = Field(alias="Intersection_exist")


def read_imgedit(directory: Path, origin: Path | None = None) -> Benchmark:
    """Read ImgEdit-Bench, basic. origin: directory of the images, if not one of the usual places.

    Raises DataError when the list is missing or malformed, or images are missing.
    """
    path = next((directory / name for name in _IMGEDIT_LISTS if (directory / name).is_file()), None)
    if path is None:
        raise DataError(f"{directory} does not contain ImgEdit-Bench: no {' or '.join(_IMGEDIT_LISTS)}")
    try:
        lines = TypeAdapter(dict[str, _ImgEditLine]).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(f"{path} is not an ImgEdit list: {first_fault(error)}") from error
    if not lines:
        raise DataError(f"{path} contains no edits")
    folder = origin or _folder_of([line.id for line in lines.values()], path.parent)
    items = tuple(Item(_plain(key, path), line.edit_type, line.prompt, folder / line.id) for key, line in lines.items())
    _check_pictures(items, path)
    return Benchmark("imgedit", items, IMGEDIT_COLUMNS, str(path))


def read_gedit(directory: Path, languages: Sequence[Language], store: Path) -> Benchmark:
    """Read GEdit-Bench in these languages. store: directory for images unpacked from parquet or arrow files.

    Raises DataError when there are no files, pyarrow is missing, rows are malformed, or images are missing.
    """
    tables = sorted([*directory.glob("**/*.parquet"), *directory.glob("**/*.arrow")])
    lists = sorted(directory.glob("*.jsonl"))
    if tables:
        rows, origin = _arrow_rows(tables), f"{len(tables)} {tables[0].suffix[1:]} files in {directory}"
    elif lists:
        rows, origin = (row for _, row in read_objects(lists[0], _GEditRow)), str(lists[0])
    else:
        raise DataError(f"{directory} does not contain GEdit-Bench: no .parquet, .arrow or .jsonl files")
    items = tuple(_gedit_item(row, directory, store, origin) for row in rows if row.instruction_language in languages)
    if not items:
        raise DataError(f"{origin}: no instruction in {' or '.join(languages)}")
    if repeated := [key for key, count in Counter(item.key for item in items).items() if count > 1]:
        raise DataError(f"{origin}: {len(repeated)} duplicate keys; first: {repeated[0]}")
    _check_pictures(items, directory)
    return Benchmark("gedit", items, GEDIT_TASKS, origin)


def find_picture(benchmark: Benchmark, item: Item, directory: Path) -> Path | None:
    """Find an existing edited image in the official layout or that of Edit-R1's sampler; None when there is none.

    ImgEdit: KEY.png. GEdit: [fullset/]TASK/LANGUAGE/KEY.png; for English also TASK/KEY.png. Suffixes also jpg, webp.
    """
    names = [item.key]
    if benchmark.name == "gedit":
        names = [f"fullset/{item.key}", item.key]
        if item.language == "en":
            names.append(f"{item.type}/{item.key.rsplit('/', 1)[1]}")
    paths = (directory / f"{name}{suffix}" for name in names for suffix in PICTURE_SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _folder_of(ids: Sequence[str], parent: Path) -> Path:
    """The usual folder that contains most of the images."""
    folders = [parent / name for name in _IMGEDIT_FOLDERS]
    return max(folders, key=lambda folder: sum((folder / one).is_file() for one in ids))


def _check_pictures(items: Iterable[Item], listed_in: Path) -> None:
    missing = sorted({str(item.source) for item in items if not item.source.is_file()})
    if missing:
        more = [f"  and {len(missing) - _FAULTS_SHOWN} more"] if len(missing) > _FAULTS_SHOWN else []
        listed = "\n".join([*(f"  {path}" for path in missing[:_FAULTS_SHOWN]), *more])
        raise DataError(f"{len(missing)} source images of {listed_in} do not exist:\n{listed}")


def _gedit_item(row: _GEditRow, directory: Path, store: Path, origin: str) -> Item:
    if row.task_type not in GEDIT_TASKS:
        raise DataError(f"{origin}: task_type {row.task_type!r} must be one of {', '.join(GEDIT_TASKS)}")
    return Item(
        key=f"{row.task_type}/{row.instruction_language}/{row.key}",
        type=row.task_type,
        instruction=row.instruction,
        source=_picture_of(row, directory, store, origin),
        language=row.instruction_language,
        intersection=row.intersection_exist,
    )


def _picture_of(row: _GEditRow, directory: Path, store: Path, origin: str) -> Path:
    image = row.input_image
    if isinstance(image, Mapping) and isinstance(image.get("bytes"), bytes):
        path = store / f"{content_hash(image['bytes'])}.png"
        if not path.exists():
            write_bytes(path, image["bytes"])
        return path
    name = image.get("path") if isinstance(image, Mapping) else image
    if not isinstance(name, str):
        raise DataError(f"{origin}: input_image of {row.key!r} is neither an image nor a path")
    return directory / name


def _arrow_rows(paths: Sequence[Path]) -> Iterator[_GEditRow]:
    """Read a few rows at a time, since a file's images may not fit in memory."""
    if importlib.util.find_spec("pyarrow") is None:
        raise DataError(
            f"{paths[0]} needs pyarrow (extra `evaluation`); without it, export the rows as gedit.jsonl "
            "with image paths as input_image"
        )
    import pyarrow as pa  # noqa: PLC0415 - needed only for these files
    from pyarrow import parquet  # noqa: PLC0415

    for path in paths:
        try:
            if path.suffix == ".parquet":
                batches = parquet.ParquetFile(path).iter_batches(batch_size=16, columns=list(_ARROW_COLUMNS))
            else:
                batches = _arrow_batches(path)
            for batch in batches:
                for row in batch.select(list(_ARROW_COLUMNS)).to_pylist():
                    yield _GEditRow.model_validate(row)
        except (OSError, KeyError, pa.ArrowException, ValidationError) as error:
            raise DataError(f"{path} is not a GEdit-Bench file: {first_fault(error)}") from error


def _arrow_batches(path: Path) -> Iterator[Any]:
    """Batches of an arrow file in either format; data sets on disk use the stream format."""
    import pyarrow as pa  # noqa: PLC0415

    mapped = pa.memory_map(str(path))
    if mapped.read(len(_ARROW_FILE)) == _ARROW_FILE:
        file = pa.ipc.open_file(mapped)
        return (file.get_batch(index) for index in range(file.num_record_batches))
    mapped.seek(0)
    return iter(pa.ipc.open_stream(mapped))


def _plain(key: str, path: Path) -> str:
    """Check that a key is usable as a file name."""
    if not re.fullmatch(r"[\w.\-]+", key):
        raise DataError(f"{path}: key {key!r} is not usable as a file name")
    return key


def first_fault(error: Exception) -> str:
    """Short description of an error; for a ValidationError the first invalid field and the number of others."""
    if not isinstance(error, ValidationError):
        return str(error)
    faults = error.errors()
    place = ".".join(str(part) for part in faults[0]["loc"]) or "the file"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{place}: {faults[0]['msg']}{more}"
