"""Generated figures in a document: the text between `<!-- figures: NAME -->` and `<!-- end of figures -->`.

Everything else in the document is written by hand and left unchanged.
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
    """Yields stdout, and meanwhile redirects what engines and servers (and child processes) write there to stderr."""
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
    """Names of all blocks, in document order."""
    return [match["name"] for match in _BLOCK.finditer(document)]


def replaced(document: str, name: str, figures: str) -> str:
    """The document with new figures in the named block. Raises ValueError unless there is exactly one such block."""
    if names(document).count(name) != 1:
        raise ValueError(f"no single block <!-- figures: {name} --> ... <!-- end of figures -->")

    def write(match: re.Match[str]) -> str:
        return f"{match['head']}\n{figures.strip()}\n\n{match['foot']}" if match["name"] == name else match[0]

    return _BLOCK.sub(write, document)
