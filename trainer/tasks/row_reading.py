"""Turns a row of any data set into a task line and its embedded pictures, by the columns in use.

A picture in a row is a path, encoded bytes, or a struct of the two (the form of `datasets.Image`). Embedded pictures
appear in the task line under a hash of their bytes, so equal tasks have equal ids in whatever row they are.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from edit_r1.shared.errors import ConfigError, DataError, suggest
from edit_r1.shared.images import content_hash
from edit_r1.trainer.tasks.columns import Columns
from edit_r1.trainer.tasks.task_line import TaskLine, describe_faults

_MEMBERS = ("png", "jpg", "jpeg", "webp")
"""Names that WebDataset gives to the pictures of a sample."""
_JSON = "json."
"""What precedes the keys of a WebDataset sample's JSON file."""


@dataclass(frozen=True)
class Picture:
    """One source image in a row: embedded bytes, or else a path."""

    column: str
    data: bytes | None
    path: str | None

    @property
    def name(self) -> str:
        """The path, or a hash of the bytes."""
        return content_hash(self.data) if self.data is not None else str(self.path)


@dataclass(frozen=True)
class RowReader:
    """Reads rows by the columns in use."""

    columns: Columns
    all_metadata: str | None = None
    """Column whose value, a struct or the text of a JSON object, is the whole metadata."""

    @property
    def names(self) -> tuple[str, ...]:
        """All columns in use."""
        more = () if self.all_metadata is None else (self.all_metadata,)
        return tuple(dict.fromkeys([*(column for _, column in self.columns.named()), *more]))

    def line(self, row: Mapping[str, Any]) -> tuple[TaskLine, tuple[Picture, ...]]:
        """The row's task, and its source images in order. Raises DataError for a row that is not a task."""
        pictures = self.pictures(row)
        columns = self.columns
        values = {
            "prompt": value_at(row, columns.prompt),
            "images": [picture.name for picture in pictures],
            "requirement": _text(row, columns.requirement),
            "task": _text(row, columns.task),
            "metadata": self._metadata(row),
        }
        try:
            return TaskLine.model_validate({key: value for key, value in values.items() if value}), pictures
        except ValidationError as error:
            raise DataError(self._in_columns(describe_faults(TaskLine, error))) from error

    def pictures(self, row: Mapping[str, Any]) -> tuple[Picture, ...]:
        """The row's source images in order. Raises DataError for values that are no pictures, and when it has none."""
        columns = self.columns.image
        found = tuple(one for column in columns for one in _pictures(column, value_at(row, column)))
        if not found:
            raise DataError(f"no source image in {' or '.join(columns)}")
        return found

    def _metadata(self, row: Mapping[str, Any]) -> dict[str, Any]:
        kept = {column: value_at(row, column) for column in self.columns.metadata}
        if self.all_metadata is None:
            return kept
        value = value_at(row, self.all_metadata)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except json.JSONDecodeError as error:
                raise DataError(f"{self.all_metadata}: not JSON: {error}") from error
        if not isinstance(value, dict | None):
            raise DataError(f"{self.all_metadata}: expected an object, found a {type(value).__name__}")
        found: dict[str, Any] = _without_nulls(value or {})
        return kept | found

    def _in_columns(self, fault: str) -> str:
        """The fault with the column's name, where it differs from the field's."""
        prompt = self.columns.prompt
        return fault.replace("prompt:", f"prompt (column {prompt}):") if prompt != "prompt" else fault


def reader_for(columns: Columns | None, available: Sequence[str], where: str, key: str) -> RowReader:
    """The reader of a data set with these columns; None for `columns` means our own names.

    key: what the user calls `columns`, for messages. Raises ConfigError for a column that does not exist, naming the
    key, its value and the columns there are.
    """
    reader = RowReader(columns) if columns is not None else _own(available)
    check_columns(reader.columns, available, where, key)
    return reader


def check_columns(columns: Columns, available: Collection[str], where: str, key: str) -> None:
    """Raises ConfigError when a column in use is not one of those available."""
    for name, column in columns.named():
        if column not in available:
            there = sorted(available)
            known = "" if suggest(column, there).startswith("known") else f"; {suggest(column, there)}"
            raise ConfigError(
                f"{key}.{name} = {column!r}: {where} has no such column; it has {', '.join(there)}{known}"
            )


def value_at(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column, or of a field of a struct (`column.field`); None where there is none."""
    if column in row:
        return row[column]
    for end in (place for place, letter in enumerate(column) if letter == "."):
        inner = row.get(column[:end])
        if isinstance(inner, Mapping):
            return value_at(inner, column[end + 1 :])
    return None


def nested_names(value: Any, prefix: str = "") -> Iterator[str]:
    """Names under which the values of a row can be addressed."""
    for name, inner in value.items():
        yield prefix + name
        if isinstance(inner, Mapping):
            yield from nested_names(inner, f"{prefix}{name}.")


def _own(available: Sequence[str]) -> RowReader:
    """Our own names, as far as the data set has them; in a WebDataset, those of its JSON files."""
    prefix = _JSON if "prompt" not in available and f"{_JSON}prompt" in available else ""
    members = tuple(name for name in _MEMBERS if name in available)
    lists = (f"{prefix}image", f"{prefix}images")
    image = (members if prefix else ()) or tuple(name for name in lists if name in available) or ("image",)
    optional = {key: f"{prefix}{key}" for key in ("requirement", "task") if f"{prefix}{key}" in available}
    metadata = f"{prefix}metadata"
    return RowReader(
        Columns(prompt=f"{prefix}prompt", image=image, **optional),
        metadata if metadata in available else None,
    )


def _text(row: Mapping[str, Any], column: str | None) -> Any:
    """A column's text; None when it is blank, as data sets write what is missing."""
    value = None if column is None else value_at(row, column)
    return value if not isinstance(value, str) or value.strip() else None


def _pictures(column: str, value: Any) -> Iterator[Picture]:
    if isinstance(value, Mapping):
        data, path = value.get("bytes"), value.get("path")
        if data is not None or path is not None:
            yield Picture(column, data, path)
    elif isinstance(value, bytes):
        yield Picture(column, value, None)
    elif isinstance(value, str):
        if value:
            yield Picture(column, None, value)
    elif isinstance(value, list):
        for one in value:
            yield from _pictures(column, one)
    elif value is not None:
        raise DataError(f"{column}: expected a picture, a path or a list of them, found a {type(value).__name__}")


def _without_nulls(value: Any) -> Any:
    """The value without the nulls with which Arrow fills the fields that a struct has in other rows only."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value
