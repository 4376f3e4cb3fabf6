"""Pure: the text that an instruction wants in the picture, and how close a text that was read comes to it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

_PAIRS = ("“”", "„“", "„”", "””", "«»", "»«", "‹›", "「」", "『』", '""', "``")  # noqa: RUF001 - marks of many languages
_SINGLE = ("‘’", "''")  # noqa: RUF001
"""Marks that are also apostrophes."""
_REMOVES = re.compile(r"\b(remov|delet|eras)\w*\b|去掉|去除|删除|移除|擦除|消す|削除", re.IGNORECASE)
_CHANGES = re.compile(
    r"\b(chang|replac|renam|turn|rewrit|edit|modif|updat|convert|correct|mak|set|substitut|translat)\w*\b"
    r"|改|换|替|変",
    re.IGNORECASE,
)
_BECOMES = re.compile(
    r"((?<!next )(?<!close )\b(to|into|with|by|as)(\s+(be|say|read|the|a|new|text|words?|phrase|title|label))*"
    r"|->|→|为|成|作|に|へ|を)[\s:,]*$",
    re.IGNORECASE,
)


class UnclearTextError(ValueError):
    """An instruction does not say which text the picture must show."""


def wanted_text(instruction: str) -> str:
    """The text in quotation marks that the picture must show.

    Of several, it is the last one if the words before it say so (`change "A" to "B"`).

    Raises:
        UnclearTextError: there is none, the text is to be removed, or it is unclear which one is meant.

    """
    found = _quoted(instruction)
    if not found:
        raise UnclearTextError("the instruction has no text in quotation marks")
    start, text = found[-1]
    if len(found) == 1 and _REMOVES.search(instruction):
        raise UnclearTextError(f"the instruction asks to remove {text!r}")
    if len(found) > 1 and not _says_so(instruction, found[0][0], start):
        raise UnclearTextError(
            f"it is unclear which of the instruction's {len(found)} texts in quotation marks is meant"
        )
    return text


def _says_so(instruction: str, first: int, last: int) -> bool:
    """Whether the text at position `first` is to become the one at `last`."""
    return bool(_CHANGES.search(instruction[:first]) or _CHANGES.search(instruction[first:last])) and bool(
        _BECOMES.search(instruction[:last])
    )


def _quoted(instruction: str) -> list[tuple[int, str]]:
    """Texts in quotation marks, with the positions of their opening marks; those inside others do not count."""
    found = []
    for match in _MARKED.finditer(instruction):
        text = next(group for group in match.groups() if group is not None).strip()
        if text:
            found.append((match.start(), text))
    return found


def _pattern(opening: str, closing: str) -> str:
    return f"{re.escape(opening)}([^{re.escape(closing)}\n]+){re.escape(closing)}"


def _single_pattern(opening: str, closing: str) -> str:
    """An apostrophe inside a word, or at its end, does not begin a text, and one inside a word does not end it."""
    return rf"(?<!\w){opening}((?:[^{closing}\n]|(?<=\w){closing}(?=\w))+){closing}(?!\w)"


_MARKED = re.compile("|".join([*(_pattern(*pair) for pair in _PAIRS), *(_single_pattern(*pair) for pair in _SINGLE)]))


def similarity(
    read: Sequence[str], wanted: str, graphemes: Callable[[str], Sequence[str]], close: Callable[..., float]
) -> tuple[float, str]:
    """How close the best run of consecutive lines comes to a text, in [0, 1], and that run.

    White space and Unicode composition do not count; upper and lower case do.

    Args:
        read: the lines of text in a picture, in reading order.
        wanted: the text that should be there.
        graphemes: splits a text into what a reader calls characters.
        close: 1 - edit distance / length of the longer sequence.

    """
    target = graphemes(_plain(wanted))
    best, text = 0.0, ""
    for first in range(len(read)):
        run = ""
        for line in read[first:]:
            run = f"{run} {line}".strip()
            found = graphemes(_plain(run))
            if (value := close(found, target)) > best:
                best, text = value, run
            if len(found) > 2 * len(target):
                break
    return best, text


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFC", text).split())
