"""The figures in a document: text between `<!-- figures: NAME -->` and `<!-- end of figures -->`, written by programs.

Everything else in the document is written by people and stays as it is.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_BLOCK = re.compile(r"(?P<head><!-- figures: (?P<name>[\w-]+) -->\n).*?(?P<foot><!-- end of figures -->)", re.DOTALL)


@contextmanager
def stdout_for_figures() -> Iterator[TextIO]:
    """Yields stdout; what engines and servers in this process and its children write there goes to stderr meanwhile."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w") as stdout:
        os.dup2(2, 1)
        try:
            yield stdout
        finally:
            sys.stdout.flush()
            stdout.flush()
            os.dup2(stdout.fileno(), 1)


def names(document: str) -> list[str]:
    """Of all blocks, in the document's order."""
    return [match["name"] for match in _BLOCK.finditer(document)]


def replaced(document: str, name: str, figures: str) -> str:
    """The document with other figures in the block of that name. Raises ValueError unless there is just one."""
    if names(document).count(name) != 1:
        raise ValueError(f"no single block <!-- figures: {name} --> ... <!-- end of figures -->")

    def write(match: re.Match[str]) -> str:
        return f"{match['head']}\n{figures.strip()}\n\n{match['foot']}" if match["name"] == name else match[0]

    return _BLOCK.sub(write, document)
