"""Parses answers: numbers and reasoning from text and JSON, the score's position from tokens. Pure.

Judges write scores in several ways; accepted are, in this order: `[[4]]`, `"Score": 4`, and a number alone.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import json_repair

from edit_r1.reward_service.mathematics.expectation import expectation
from edit_r1.reward_service.types import Answer, Score
from edit_r1.shared.errors import UnparsableAnswerError

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_BRACKETED = re.compile(rf"\[\[\s*{_NUMBER}\s*\]\]")
_KEYED = re.compile(rf"\"?\bscore\"?\s*:\s*[\"\[]*\s*{_NUMBER}", re.IGNORECASE)
_ALONE = re.compile(rf"\W*?{_NUMBER}(?:\s*(?:/|out of)\s*5)?\W*")
_REASONING = re.compile(r"\"?Reasoning\"?\s*:\s*\"?(.*?)\"?\s*,?\s*\"?Score\"?\s*:", re.DOTALL | re.IGNORECASE)
_BETWEEN_MARKER_AND_SCORE = re.compile(r"[\s\"\[]*")


def parse_score(text: str, lowest: float, highest: float) -> float:
    """The score stated in an answer.

    Raises:
        UnparsableAnswerError: there is no score, or it is outside [lowest, highest].

    """
    found = _BRACKETED.findall(text) or _KEYED.findall(text)
    if not found and (alone := _ALONE.fullmatch(text)):
        found = [alone[1]]
    if not found:
        raise UnparsableAnswerError(f"no score in the judge's answer {quoted(text)}")
    score = float(found[-1])
    if not lowest <= score <= highest:
        raise UnparsableAnswerError(f"score {score:g} is not in {lowest:g}..{highest:g} in the answer {quoted(text)}")
    return score


def parse_reasoning(text: str) -> str:
    """The reasoning before the score; the whole text if it is not marked."""
    found = _REASONING.search(text)
    return (found[1] if found else text).strip()


def score_position(pieces: Sequence[str], marker: str, labels: Sequence[str]) -> int | None:
    """Index of the score token: the first label token after the marker.

    Only blanks, quotes and brackets may be between the two. Works on the text of each generated token, so nothing is
    tokenised again. None if there is no marker or no label follows it.
    """
    ends = list(itertools.accumulate(len(piece) for piece in pieces))
    text = "".join(pieces)
    for match in re.finditer(re.escape(marker.rstrip()), text):
        following = (i for i, end in enumerate(ends) if end > match.end())
        for index in following:
            if pieces[index].strip() in labels and ends[index] - len(pieces[index]) >= match.end():
                return index
            begins = max(match.end(), ends[index] - len(pieces[index]))
            if not _BETWEEN_MARKER_AND_SCORE.fullmatch(text, begins, ends[index]):
                break
    return None


def closing_text(text: str, marker: str) -> str:
    """The text to append to an answer without a score so that a label comes next: the rest of the marker."""
    if _BETWEEN_MARKER_AND_SCORE.fullmatch(text.rpartition(marker.rstrip())[2]) and marker.rstrip() in text:
        return "" if text.endswith((marker, "[")) else marker[len(marker.rstrip()) :]
    return f'", {marker}'


def read_expectation(answer: Answer, position: int, labels: Sequence[str], values: Sequence[float]) -> Score:
    """The expected value of the label distribution at one position of an answer.

    Where an API returned only the most likely tokens, `details` has the `uncovered_mass` of the others.
    """
    found = expectation(answer.label_logprobs[position], values)
    distribution = dict(zip(labels, found.probabilities, strict=True))
    details = {"uncovered_mass": answer.uncovered[position]} if answer.uncovered else {}
    return Score(found.value, distribution=distribution, score_mass=found.mass, details=details)


@dataclass(frozen=True)
class Numbers:
    """Contents of a JSON answer."""

    values: tuple[float, ...]
    reasoning: str


def parse_numbers(text: str, key: str, count: int, lowest: float, highest: float) -> Numbers:
    """The numbers under a key of a JSON object, and its reasoning; small JSON errors are repaired.

    A single number may be written without the brackets of a list.

    Raises:
        UnparsableAnswerError: no such object, a wrong count of numbers, or one outside [lowest, highest].

    """
    found = _mended(text, "{", "}")
    listed = found.get(key) if isinstance(found, dict) else None
    values = [_number(value) for value in (listed if isinstance(listed, list) else [listed])]
    if len(values) != count or any(value is None for value in values):
        raise UnparsableAnswerError(f"expected {count} numbers under {key!r} in the judge's answer {quoted(text)}")
    numbers = tuple(value for value in values if value is not None)
    if not all(lowest <= value <= highest for value in numbers):
        raise UnparsableAnswerError(f"{key} {listed} is not in {lowest:g}..{highest:g} in the answer {quoted(text)}")
    return Numbers(numbers, str(found.get("reasoning", "")))


def parse_entries(text: str) -> list[dict[str, Any]]:
    """The objects in a JSON list; small JSON errors are repaired. Raises UnparsableAnswerError if there are none."""
    found = _mended(text, "[", "]")
    entries = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    if not entries:
        raise UnparsableAnswerError(f"no list of objects in the judge's answer {quoted(text)}")
    return entries


def quoted(text: str) -> str:
    """The beginning of an answer, for a message."""
    return repr(text if len(text) <= 200 else f"{text[:200]}...")


def _mended(text: str, opening: str, closing: str) -> Any:
    """The repaired JSON value between the first opening and last closing bracket; truncated answers are closed."""
    start = text.find(opening)
    if start < 0:
        raise UnparsableAnswerError(f"no JSON in the judge's answer {quoted(text)}")
    end = text.rfind(closing)
    return json_repair.loads(text[start : end + 1] if end > start else text[start:])


def _number(value: object) -> float | None:
    """The value as a number, also if it is in quotes; None if it is not a number."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", value):
        return float(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
