"""Human preferences over edits: the record that every reader yields, and our own JSON Lines format.

Each line is an instruction with its edits and any number of judgements of them; image paths are relative to the file:

    {"id": "7", "source": "7.png", "instruction": "make the car red", "task": "adjust", "edits": ["7a.png", "7b.png"],
     "pairs": [{"first": 0, "second": 1, "votes": ["first", "first", "tie"]}],
     "ratings": [{"edit": 0, "scores": [4], "labels": ["Good", "Good", "Bad"]}]}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edit_r1.shared.annotators import agreed
from edit_r1.shared.errors import DataError
from edit_r1.shared.fields import Names, OneOrMore
from edit_r1.shared.jsonl import read_objects

Vote = Literal["first", "second", "tie"]
QualityLabel = Literal["Good", "Bad", "Indistinguishable"]
LABELS: Sequence[QualityLabel] = ("Good", "Indistinguishable", "Bad")
_PREFERENCE = {"first": 1, "second": -1, "tie": 0}


@dataclass(frozen=True)
class Pair:
    """Two edits of one item and which of them the annotators prefer."""

    first: int
    second: int
    """Indices into the item's edits."""
    human: int
    """1: the first is better; -1: the second; 0: neither."""


@dataclass(frozen=True)
class Rating:
    """Human rating of a single edit."""

    edit: int
    score: float | None
    """1 to 5."""
    label: QualityLabel | None


@dataclass(frozen=True)
class PreferenceItem:
    """One instruction for one source, its edits, and the human judgements of them."""

    id: str
    """Items with the same id share source and instruction, and are resampled together."""
    instruction: str
    sources: tuple[bytes, ...]
    edits: tuple[bytes, ...]
    pairs: tuple[Pair, ...]
    ratings: tuple[Rating, ...] = ()
    task: str | None = None
    requirement: str | None = None
    dimension: str = "overall"
    """The aspect that the annotators judged, e.g. `prompt_following`."""
    discarded: int = 0
    """Number of judgements on which the annotators did not agree."""


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PairLine(_Line):
    """One pair in our file format."""

    first: int = Field(ge=0)
    second: int = Field(ge=0)
    votes: Annotated[tuple[Vote, ...], OneOrMore] = Field(min_length=1)
    """One vote per annotator, in the order asked."""


class RatingLine(_Line):
    """One edit's ratings in our file format."""

    edit: int = Field(ge=0)
    scores: tuple[Annotated[float, Field(ge=1, le=5)], ...] = ()
    labels: Annotated[tuple[QualityLabel, ...], OneOrMore] = ()


class PreferenceLine(_Line):
    """One line in our file format."""

    id: str
    source: Names = Field(min_length=1)
    instruction: str = Field(min_length=1)
    edits: tuple[str, ...] = Field(min_length=1)
    pairs: tuple[PairLine, ...] = ()
    ratings: tuple[RatingLine, ...] = ()
    task: str | None = None
    requirement: str | None = Field(None, min_length=1)
    dimension: str = "overall"

    @model_validator(mode="after")
    def _edits_exist(self) -> PreferenceLine:
        named = [index for pair in self.pairs for index in (pair.first, pair.second)]
        for index in (*named, *(rating.edit for rating in self.ratings)):
            if index >= len(self.edits):
                raise ValueError(f"edit {index} does not exist; edits: {len(self.edits)} (counted from 0)")
        return self

    def to_item(self, folder: Path) -> PreferenceItem:
        """The item with its images' bytes and one label per judgement. Raises OSError if an image is missing."""
        pairs = [(pair, agreed(pair.votes)) for pair in self.pairs]
        ratings = [Rating(one.edit, agreed(one.scores), agreed(one.labels)) for one in self.ratings]
        lost = [label is None for _, label in pairs]
        lost += [agreed(votes) is None for one in self.ratings for votes in (one.scores, one.labels) if votes]
        return PreferenceItem(
            id=self.id,
            instruction=self.instruction,
            sources=tuple((folder / name).read_bytes() for name in self.source),
            edits=tuple((folder / name).read_bytes() for name in self.edits),
            pairs=tuple(
                Pair(pair.first, pair.second, _PREFERENCE[label]) for pair, label in pairs if label is not None
            ),
            ratings=tuple(one for one in ratings if one.score is not None or one.label is not None),
            task=self.task,
            requirement=self.requirement,
            dimension=self.dimension,
            discarded=sum(lost),
        )


def read_jsonl(path: Path) -> Iterator[PreferenceItem]:
    """Yields the items of a file in our format. Raises DataError naming file, line and field."""
    for place, line in read_objects(path, PreferenceLine):
        try:
            item = line.to_item(path.parent)
        except OSError as error:
            raise DataError(f"{place}: image {error.filename}: {error.strerror}") from error
        yield item
