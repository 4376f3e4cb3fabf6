"""Self-contained HTML pages, rendered from templates that extend `page.html`; texts are escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape

_FRAME = Path(__file__).parent
"""Directory of `page.html`, the frame of every page."""


def render(template: Path, **values: object) -> str:
    """Render a template file; values may be functions that the template calls."""
    return _environment(template.parent).get_template(template.name).render(values)


@cache
def _environment(directory: Path) -> Environment:
    loader = FileSystemLoader([directory, _FRAME])
    return Environment(loader=loader, autoescape=select_autoescape(), trim_blocks=True)
