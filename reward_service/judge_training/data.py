"""Training data for a judge: traces (edits with the correct answers), and pairs of edits that annotators compared.

Each line of a trace file is one edit with an answer to each of the method's questions, in order; image paths are
relative to the file. Pairs are preference data in the format of `edit-r1 align` (edit_r1.shared.preferences).

    {"source": "7.png", "edited": "7a.png", "instruction": "make the car red", "answers": ["Yes", "No", "Yes"]}
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from edit_r1.reward_service.types import JudgeImage
from edit_r1.shared.errors import DataError
from edit_r1.shared.fields import Names
from edit_r1.shared.images import content_hash, decode
from edit_r1.shared.jsonl import read_objects
from edit_r1.shared.preferences import read_jsonl


@dataclass(frozen=True)
class SeenEdit:
    """One edit as shown to the judge."""

    instruction: str
    sources: tuple[JudgeImage, ...]
    edited: JudgeImage
    task: str | None
    requirement: str | None


@dataclass(frozen=True)
class Trace:
    """The correct answers about one edit."""

    edit: SeenEdit
    answers: tuple[str, ...]
    """One per question."""


@dataclass(frozen=True)
class PreferredPair:
    """Two edits, of which annotators prefer one."""

    preferred: SeenEdit
    rejected: SeenEdit

    @property
    def edits(self) -> tuple[SeenEdit, SeenEdit]:
        """The preferred one first."""
        return self.preferred, self.rejected


class _TraceLine(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Names = Field(min_length=1)
    edited: str
    instruction: str = Field(min_length=1)
    answers: tuple[str, ...] = Field(min_length=1)
    task: str | None = None
    requirement: str | None = Field(None, min_length=1)


def read_traces(path: Path) -> list[Trace]:
    """All traces of a file. Raises DataError naming file, line and field."""
    traces = []
    for place, line in read_objects(path, _TraceLine):
        try:
            pictures = [_picture((path.parent / name).read_bytes()) for name in (*line.source, line.edited)]
        except OSError as error:
            raise DataError(f"{place}: image {error.filename}: {error.strerror}") from error
        edit = SeenEdit(line.instruction, tuple(pictures[:-1]), pictures[-1], line.task, line.requirement)
        traces.append(Trace(edit, line.answers))
    if not traces:
        raise DataError(f"{path}: contains no traces")
    return traces


def read_pairs(path: Path) -> list[PreferredPair]:
    """All pairs with a clear preference. Raises DataError, also if there are none."""
    pairs = []
    for item in read_jsonl(path):
        sources = tuple(map(_picture, item.sources))
        edits = [
            SeenEdit(item.instruction, sources, _picture(edit), item.task, item.requirement) for edit in item.edits
        ]
        for pair in item.pairs:
            if pair.human:
                first, second = edits[pair.first], edits[pair.second]
                pairs.append(PreferredPair(first, second) if pair.human > 0 else PreferredPair(second, first))
    if not pairs:
        raise DataError(f"{path}: contains no pair with a preferred edit")
    return pairs


@lru_cache(maxsize=4096)
def _picture(data: bytes) -> JudgeImage:
    return JudgeImage(decode(data), content_hash(data))
