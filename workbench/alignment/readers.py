"""Readers of published preference data: yield `PreferenceItem`s row by row from the authors' files.

See docs/alignment.md for field names, the meaning of labels, and where to get each data set.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from edit_r1.shared.errors import DataError
from edit_r1.shared.images import content_hash
from edit_r1.shared.jsonl import read_rows
from edit_r1.shared.preferences import Pair, PreferenceItem, read_jsonl

_ROWS_AT_ONCE = 8
"""Rows read at once, few because they contain images."""
_ARENA = {"leftvote": 1, "rightvote": -1, "tievote": 0}
_QUALITY_WORDS = frozenset({"Good", "Bad"})
"""May follow the letters of a tie: `A=B=Good`."""
T = TypeVar("T")
Row = Mapping[str, Any]
Convert = Callable[[Row, Path], PreferenceItem]


def read_preferences(path: Path, form: str) -> Iterator[PreferenceItem]:
    """Items of a file, or of all files in a directory, in one of FORMATS.

    Raises DataError naming the file, the row and the error, or when the path contains no file of that format.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if form == "jsonl":
        yield from read_jsonl(path)
        return
    convert = FORMATS[form]
    for file in _files(path):
        for number, row in enumerate(_rows(file), start=1):
            if not isinstance(row, Mapping):
                raise DataError(f"{file}, row {number}: expected an object, got a {type(row).__name__}")
            try:
                yield convert(row, file.parent)
            except KeyError as error:
                raise DataError(
                    f"{file}, row {number}: field {error} is missing; is it {form}? It has {', '.join(row)}"
                ) from error
            except (ValueError, OSError) as error:
                raise DataError(f"{file}, row {number}: {error}") from error


def ranked_pairs(ranking: str) -> tuple[Pair, ...]:
    """All pairs of a ranking such as `C>A=B`, where A is edit 0; a quality word after ties is ignored.

    Raises ValueError for anything else.
    """
    tiers = [[name.strip() for name in tier.split("=")] for tier in ranking.split(">")]
    ranks = {name: rank for rank, tier in enumerate(tiers) for name in tier if name not in _QUALITY_WORDS}
    names = [chr(ord("A") + i) for i in range(len(ranks))]
    if sorted(ranks) != names or len(ranks) < 2:
        raise ValueError(f"ranking {ranking!r}: expected letters starting from A, each once, joined by > and =")
    return tuple(
        Pair(i, j, (ranks[b] > ranks[a]) - (ranks[b] < ranks[a]))
        for (i, a), (j, b) in combinations(enumerate(names), 2)
    )


def _editscore_bench(row: Row, folder: Path) -> PreferenceItem:
    """EditScore/EditReward-Bench: the first output is the preferred one; there are no ties."""
    pictures = [_picture(one, folder) for one in _field(row, "output_images", list)]
    source = _picture(row["input_image"], folder)
    return _item(
        _field(row, "instruction", str),
        source,
        pictures,
        (Pair(0, 1, 1),),
        task=_field(row, "task_type", str),
        dimension=_field(row, "dimension", str),
    )


def _editreward_bench(row: Row, folder: Path) -> PreferenceItem:
    """TIGER-Lab/EditReward-Bench: one pair per row; pairs of a three- or four-way item share an id prefix."""
    pictures = [_picture(row["candidate_1"], folder), _picture(row["candidate_2"], folder)]
    pairs = ranked_pairs(_field(row, "ranking", str))
    source = _picture(row["source_image"], folder)
    return _item(_field(row, "instruction", str), source, pictures, pairs, dimension=_field(row, "dataset", str))


def _editreward_bench_json(row: Row, folder: Path) -> PreferenceItem:
    """The same benchmark's local JSON: a whole ranking per row."""
    pictures = [_picture(one, folder) for one in _field(row, "paths_generated", list)]
    pairs = ranked_pairs(_field(_field(row, "human_vote", dict), "ranking", str))
    return _item(
        _field(row, "prompt", str), _picture(row["path_src"], folder), pictures, pairs, dimension=f"{len(pictures)}pair"
    )


def _editreward_train(row: Row, folder: Path) -> PreferenceItem:
    """EditReward's training pairs: path1 is at least as good as path2; tie_case marks ties."""
    pictures = [_picture(row["path1"], folder), _picture(row["path2"], folder)]
    pair = Pair(0, 1, 0 if row.get("tie_case") else 1)
    return _item(_field(row, "prompt", str), _picture(row["path_src"], folder), pictures, (pair,))


def _genai_bench(row: Row, folder: Path) -> PreferenceItem:
    """TIGER-Lab/GenAI-Bench, image editing: arena votes."""
    return _arena(row, folder, _field(row, "instruct_prompt", str), row["source_image"])


def _editreward_data(row: Row, folder: Path) -> PreferenceItem:
    """TIGER-Lab/EditReward-Data: two edits per row, with arena-style votes."""
    return _arena(row, folder, _field(row, "instruction", str), row["source_img"])


def _arena(row: Row, folder: Path, instruction: str, source: object) -> PreferenceItem:
    """An arena vote; `bothbad_vote` gives no order and yields no pair."""
    vote = _field(row, "vote_type", str)
    if vote not in _ARENA and vote != "bothbad_vote":
        raise ValueError(f"vote_type {vote!r}: expected one of {', '.join(_ARENA)}, bothbad_vote")
    pairs = (Pair(0, 1, _ARENA[vote]),) if vote in _ARENA else ()
    pictures = [_picture(row["left_output_image"], folder), _picture(row["right_output_image"], folder)]
    return _item(instruction, _picture(source, folder), pictures, pairs, discarded=not pairs)


def _mer_bench(row: Row, folder: Path) -> PreferenceItem:
    """SpatialReward/MER-Bench: a ranking of two to four edits."""
    pictures = [_picture(one, folder) for one in _field(row, "edited_images", list)]
    source = _picture(row["original_image"], folder)
    return _item(
        _field(row, "instruction", str),
        source,
        pictures,
        ranked_pairs(_field(row, "label", str)),
        dimension=f"{len(pictures)}pair",
    )


FORMATS: Mapping[str, Convert] = {
    "editscore-bench": _editscore_bench,
    "editreward-bench": _editreward_bench,
    "editreward-bench-json": _editreward_bench_json,
    "editreward-train": _editreward_train,
    "editreward-data": _editreward_data,
    "genai-bench": _genai_bench,
    "mer-bench": _mer_bench,
}


def _item(
    instruction: str,
    source: bytes,
    edits: Sequence[bytes],
    pairs: tuple[Pair, ...],
    *,
    task: str | None = None,
    dimension: str = "overall",
    discarded: bool = False,
) -> PreferenceItem:
    """Build an item; rows with the same source and instruction share an id, so that they are resampled together."""
    name = content_hash(source + instruction.encode())
    return PreferenceItem(
        name, instruction, (source,), tuple(edits), pairs, (), task, dimension=dimension, discarded=int(discarded)
    )


def _field(row: Row, name: str, kind: type[T]) -> T:
    """A field of the given type. Raises KeyError when missing, ValueError for another type."""
    value = row[name]
    if not isinstance(value, kind):
        raise ValueError(f"{name}: expected a {kind.__name__}, got {value!r:.60}")
    return value


def _picture(value: object, folder: Path) -> bytes:
    """The bytes of an image column, embedded or read from the named file (relative to the list)."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, Mapping):
        inside = value.get("bytes")
        return inside if isinstance(inside, bytes) else _picture(value.get("path"), folder)
    if isinstance(value, str):
        return (folder / value).read_bytes()
    raise ValueError(f"an image is a {type(value).__name__}: expected bytes, a path, or both")


def _files(path: Path) -> list[Path]:
    found = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.suffix in _READERS)
    # `datasets` saves JSON metadata files next to its tables.
    found = [one for one in found if one.suffix in _TABLES] or found
    if not found or any(one.suffix not in _READERS for one in found):
        raise DataError(f"{path}: expected {', '.join(_READERS)}, or a directory of them")
    return found


def _rows(file: Path) -> Iterator[object]:
    try:
        yield from _READERS[file.suffix](file)
    except ValueError as error:  # from JSON, UTF-8 or Arrow
        raise DataError(f"{file}: {error}") from error


def _json_rows(file: Path) -> Iterator[object]:
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, list | dict):
        raise ValueError(f"expected a list of rows, got a {type(content).__name__}")
    yield from content if isinstance(content, list) else content.values()


def _jsonl_rows(file: Path) -> Iterator[Row]:
    return (row for _, row in read_rows(file))


def _parquet_rows(file: Path) -> Iterator[Row]:
    with pq.ParquetFile(file) as table:
        for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE):
            yield from batch.to_pylist()


def _arrow_rows(file: Path) -> Iterator[Row]:
    with pa.memory_map(str(file)) as content, pa.ipc.open_stream(content) as batches:
        for batch in batches:
            for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                yield from batch.slice(start, _ROWS_AT_ONCE).to_pylist()


_TABLES = frozenset({".parquet", ".arrow"})
_READERS: Mapping[str, Callable[[Path], Iterator[object]]] = {
    ".parquet": _parquet_rows,
    ".arrow": _arrow_rows,
    ".json": _json_rows,
    ".jsonl": _jsonl_rows,
}
