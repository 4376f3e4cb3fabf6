"""The code blocks of our Markdown pages, in order, each with its line, kind and note (the HTML comment before it).

A note is one of

    <!-- not run: REASON -->    the test does not execute the block, for one of the REASONS below
    <!-- file: PATH -->         the reader should write the block to that file
    <!-- error: ID -->          in docs/troubleshooting.md: output of a program (test_troubleshooting.py provokes it)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]

REASONS = (
    r"needs a GPU",
    r"needs another machine",
    r"needs a Docker engine \(make containers-check runs it\)",
    r"runs for minutes \((?P<minutes>[^)]+)\)",
    r"needs downloads \((?P<downloads>[^)]+)\)",
    r"needs files of your own \((?P<own>[^)]+)\)",
    r"output or a file's format, not a command",
)
"""Valid reasons for not executing a block. In brackets is what covers it: a make target, a test file, or .ci/run."""

# Languages of fences that contain neither commands nor data that a program reads.
_OTHER_LANGUAGES = frozenset({"text", "mermaid", "diff", "html", "dockerfile", "makefile"})
_KINDS = {"console": "bash", "sh": "bash", "shell": "bash", "py": "python", "jsonl": "json", "yml": "yaml"}
_NOTE = re.compile(r"<!--\s*(?P<key>not run|file|error):\s*(?P<value>.*?)\s*-->\s*", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One code block."""

    page: Path
    line: int
    """Number of its first line (of the fence, if there is one), from 1."""
    kind: str
    """bash, python, json, yaml or toml; `other` if the fence has another language."""
    text: str
    note: tuple[str, str] | None
    """(`not run`, reason), (`file`, path) or (`error`, id)."""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether the test executes it or parses it as data."""
        return self.kind != "other" and (self.note is None or self.note[0] == "file")


def pages() -> list[Path]:
    """All pages with commands for readers to type."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """The page's blocks, indented or fenced, including those in lists."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    found = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type not in ("code_block", "fence") or token.map is None:
            continue
        note = _NOTE.fullmatch(before.content) if before is not None and before.type == "html_block" else None
        kind = _kind(token.info.split()[0] if token.info.strip() else "", token.content)
        found.append(Block(page, token.map[0] + 1, kind, token.content, (note["key"], note["value"]) if note else None))
    return found


def fault(block: Block) -> str | None:
    """The error in a block's note; None if it is valid."""
    if block.note is None or block.note[0] != "not run":
        return None
    reason = block.note[1]
    match = next(filter(None, (re.fullmatch(pattern, reason) for pattern in REASONS)), None)
    if match is None:
        return f"{block}: {reason!r} is not one of the REASONS in tests/support/pages.py"
    for covering in filter(None, match.groupdict().values()):
        if not _exists(covering):
            return f"{block}: {covering!r} is neither a make target nor a file"
        if uncovered := _targets(block.text) - _covered(covering):
            return f"{block}: {covering} does not run make {', '.join(sorted(uncovered))}"
    return None


@cache
def make_targets() -> Mapping[str, set[str]]:
    """The Makefile's targets, each with its prerequisites."""
    rules = re.findall(r"^([a-z-]+):([^#\n]*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    known = {target for target, _ in rules}
    return {target: known.intersection(needs.split()) for target, needs in rules}


def _targets(text: str) -> set[str]:
    """Make targets run by the commands in a text."""
    lines = re.findall(r"^\s*make ([a-z -]+)", text, re.MULTILINE)
    return {target for line in lines for target in line.split()}


def _covered(covering: str) -> set[str]:
    """The targets run by a make command or a script, including their prerequisites."""
    reached: set[str] = set()
    new = _targets(covering) or _targets((ROOT / covering).read_text())
    while new:
        reached |= new
        new = {need for target in new for need in make_targets()[target]} - reached
    return reached


def _exists(covering: str) -> bool:
    program, _, target = covering.partition(" ")
    return target in make_targets() if program == "make" else (ROOT / covering).is_file()


def _kind(language: str, text: str) -> str:
    """The kind by the fence's language, or, for an indented block, by how it begins."""
    if language in _OTHER_LANGUAGES:
        return "other"
    if language:
        return _KINDS.get(language, language)
    if text.lstrip().startswith(("{", "[")):
        return "json"
    return "python" if re.match(r"(from \S+ )?import ", text) else "bash"
