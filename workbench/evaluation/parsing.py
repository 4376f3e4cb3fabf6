"""Parses a judge's answer: the scores of ImgEdit's three criteria, or GEdit's JSON. Pure.

Takes an answer's text and returns numbers, or raises UnparsableAnswerError. Nothing is guessed or filled in: an answer
that lacks a score is unparsable. `official_mean` parses like the authors' script, for comparison with its numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from edit_r1.shared.errors import UnparsableAnswerError

_DECORATION = re.compile(r"[\s*_`#>\"'\[\]()]+")
_NUMBERING = re.compile(r"^(?:[-\u2022]|\d[.)])+")
_LARGEST = 1e9
_SCORE_LIST = re.compile(r"[\"']?\bscore[\"']?\s*:\s*\[([^\[\]]*)\]", re.IGNORECASE)


def criteria_scores(text: str, criteria: Sequence[str], lowest: int = 1, highest: int = 5) -> tuple[int, ...]:
    """Strict parser: one integer per named criterion, in order.

    Formatting of the number does not matter ("4.", "**4**", "4/5"). A criterion that is missing, has two different
    numbers, a fraction, or a number outside lowest..highest makes the answer unparsable.
    """
    lines = [_NUMBERING.sub("", _bare(line)) for line in _answer(text).splitlines()]
    return tuple(_criterion(lines, name, text, lowest, highest) for name in criteria)


def _criterion(lines: Sequence[str], name: str, text: str, lowest: int, highest: int) -> int:
    stating = re.compile(
        rf"{re.escape(_bare(name))}(?:score)?[:=](-?\d+(?:\.\d+)?)(?:(?:/|outof){highest})?[.,;]?", re.ASCII
    )
    stated = {float(found[1]) for line in lines if (found := stating.fullmatch(line))}
    if len(stated) != 1:
        raise UnparsableAnswerError(f"{len(stated) or 'no'} scores of {name!r} in the judge's answer {_quote(text)}")
    value = stated.pop()
    if value != int(value) or not lowest <= value <= highest:
        raise UnparsableAnswerError(
            f"score {value:g} of {name!r} is not one of {lowest}..{highest} in the answer {_quote(text)}"
        )
    return int(value)


def _answer(text: str) -> str:
    """The final answer, after any thinking block."""
    return text.rpartition("</think>")[2]


def _bare(line: str) -> str:
    """The line in lower case, without whitespace and markup."""
    return _DECORATION.sub("", line).lower().replace("&", "and")


def official_mean(answer: object) -> float | None:
    """The sample score of ImgEdit's step1_get_avgscore.py: the mean over lines `name: digits`, to two decimals.

    Lines with any other formatting are skipped, so it may be the mean of only one or two criteria. None where the
    script drops the sample (no such line) or raises (the answer is a stored error instead of text).
    """
    if not isinstance(answer, str):
        return None
    parts = (line.split(": ") for line in answer.splitlines())
    values = [int(part[1]) for part in parts if len(part) == 2 and part[1].isdecimal()]
    return round(sum(values) / len(values), 2) if values else None


def json_scores(text: str, count: int, lowest: float = 0.0, highest: float = 10.0) -> tuple[float, ...]:
    """The `count` numbers under "score" in a JSON answer.

    Surrounding text, code fences, either kind of quotation marks and broken JSON outside the list are tolerated.
    A different count, a value that is not a number or out of range, or two different lists make it unparsable.
    """
    answer = _answer(text)
    lists = [value["score"] for value in _objects(answer) if "score" in value]
    if not lists:
        lists = [[part.strip().strip("\"'") for part in found.split(",")] for found in _SCORE_LIST.findall(answer)]
    stated = {_numbers(value) for value in lists}
    numbers = stated.pop() if len(stated) == 1 else None
    if numbers is None or len(numbers) != count:
        raise UnparsableAnswerError(f"no unique list of {count} scores in the judge's answer {_quote(text)}")
    if not all(lowest <= value <= highest for value in numbers):
        raise UnparsableAnswerError(
            f"scores {list(numbers)} are not in {lowest:g}..{highest:g} in the answer {_quote(text)}"
        )
    return numbers


def _objects(text: str) -> list[Mapping[str, Any]]:
    """All complete top-level JSON objects in the text."""
    decoder = json.JSONDecoder(strict=False)
    found: list[Mapping[str, Any]] = []
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
            found.append(value)
        except (ValueError, RecursionError):
            end = start + 1
        start = text.find("{", end)
    return found


def _numbers(listed: object) -> tuple[float, ...] | None:
    """The list as numbers; None when it is not a list or contains something else."""
    values = [_number(value) for value in listed] if isinstance(listed, list) else [None]
    numbers = tuple(value for value in values if value is not None)
    return numbers if len(numbers) == len(values) else None


def _number(value: Any) -> float | None:
    """A number, possibly quoted; None for anything else and for huge values."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,9}(\.\d{1,9})?", value.strip(), re.ASCII):
        return float(value)
    plain = isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST
    return float(value) if plain else None


def _quote(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:200]}...")
