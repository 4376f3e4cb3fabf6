"""`edit-r1 data text-edit`: changes a few characters of a word shown in an image.

From images with known text it makes tasks of type `text_edit`, such as `replace the text "SALE" with "SALF"`.
Source: arXiv:2510.16888, Section 3.1 (random characters of LexArt's words).
"""

from __future__ import annotations

import itertools
import random
import string
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from edit_r1.trainer.tasks.task_line import TaskLine
from edit_r1.workbench.data_prep.formats import Word, WordsLine, to_text
from edit_r1.workbench.data_prep.input_lists import Line
from edit_r1.workbench.data_prep.pictures import Renaming
from edit_r1.workbench.data_prep.resumable_jobs import Outcome, rng_of

TASK = "text_edit"
Operation = Literal["substitute", "delete", "insert", "swap"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
TOO_SHORT, QUOTED = "word below --min-length", "word with a quotation mark"
REPEATED, FIXED = "word that occurs more than once in its image", "word that cannot be changed"
NOT_CHOSEN, NO_WORD = "word beyond --per-picture", "image without a usable word"


@dataclass(frozen=True)
class Choices:
    """The options of `rewrite`."""

    operations: tuple[Operation, ...] = OPERATIONS
    max_changes: int = 2
    """Characters changed per word: 1 to this many, equally often."""
    min_length: int = 3
    per_picture: int = 1
    """Maximum number of words per image that become tasks."""
    seed: int = 0


def rewrite(line: Line[WordsLine], choices: Choices, rename: Renaming) -> Outcome:
    """Make the tasks for one image, without opening it."""
    rng = rng_of(choices.seed, line.text)
    occurrences = Counter(word.text for word in line.value.words)
    reasons = [_why_not(word.text, occurrences, choices) for word in line.value.words]
    dropped = [reason for reason in reasons if reason]
    usable = [word for word, reason in zip(line.value.words, reasons, strict=True) if not reason]
    chosen = rng.sample(usable, min(choices.per_picture, len(usable)))
    dropped += [NOT_CHOSEN] * (len(usable) - len(chosen)) + ([] if usable else [NO_WORD])
    tasks = [_task(rng, line.value, word, choices, rename) for word in chosen]
    return Outcome(tuple(map(to_text, tasks)), tuple(dropped))


def alter(rng: random.Random, word: str, num_changes: int, operations: tuple[Operation, ...] = OPERATIONS) -> str:
    """Apply `num_changes` single-character changes; never returns the word itself. ValueError when none is possible.

    Letters become letters of the same case and digits become digits; spaces and punctuation are not changed.
    """
    first = changed = _change(rng, word, operations)
    for _ in range(num_changes - 1):
        changed = _change(rng, changed, operations) if can_be_altered(changed, operations) else changed
    return first if changed == word else changed  # changes can cancel out; a single one cannot


def can_be_altered(word: str, operations: tuple[Operation, ...] = OPERATIONS) -> bool:
    """Whether some operation can change the word."""
    return any(any(_CANDIDATES[name](word)) for name in operations)


def _why_not(text: str, occurrences: Counter[str], choices: Choices) -> str | None:
    if len(text) < choices.min_length:
        return TOO_SHORT
    if '"' in text:
        return QUOTED
    if occurrences[text] > 1:
        return REPEATED
    return None if can_be_altered(text, choices.operations) else FIXED


def _task(rng: random.Random, line: WordsLine, word: Word, choices: Choices, rename: Renaming) -> TaskLine:
    after = alter(rng, word.text, rng.randint(1, choices.max_changes), choices.operations)
    metadata = {"before": word.text, "after": after}
    return TaskLine(
        prompt=f'replace the text "{word.text}" with "{after}"',
        image=rename(line.image),
        task=TASK,
        metadata={
            **metadata,
            **({"box": list(word.box)} if word.box else {}),
            **({"annotation": line.metadata} if line.metadata else {}),
        },
    )


def _change(rng: random.Random, word: str, operations: tuple[Operation, ...]) -> str:
    possible = {name: found for name in operations if (found := list(_CANDIDATES[name](word)))}
    if not possible:
        raise ValueError(f"{word!r} cannot be altered by {', '.join(operations)}")
    return rng.choice(possible[rng.choice(list(possible))])


def _alphabet(char: str) -> str:
    """Possible substitutes of a character; empty for punctuation and caseless scripts."""
    if char.isupper():
        return string.ascii_uppercase
    if char.islower():
        return string.ascii_lowercase
    return string.digits if char.isdecimal() else ""


def _substitutions(word: str) -> Iterator[str]:
    for at, char in enumerate(word):
        yield from (f"{word[:at]}{other}{word[at + 1 :]}" for other in _alphabet(char) if other != char)


def _deletions(word: str) -> Iterator[str]:
    for at, char in enumerate(word):
        shorter = word[:at] + word[at + 1 :]
        if char.isalnum() and shorter and shorter == shorter.strip():
            yield shorter


def _insertions(word: str) -> Iterator[str]:
    for at, char in enumerate(word):
        yield from (f"{word[:at]}{other}{word[at:]}" for other in _alphabet(char))


def _swaps(word: str) -> Iterator[str]:
    for at, (one, other) in enumerate(itertools.pairwise(word)):
        if one != other and one.isalnum() and other.isalnum():
            yield f"{word[:at]}{other}{one}{word[at + 2 :]}"


_CANDIDATES: dict[Operation, Callable[[str], Iterator[str]]] = {
    "substitute": _substitutions,
    "delete": _deletions,
    "insert": _insertions,
    "swap": _swaps,
}
