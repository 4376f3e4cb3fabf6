"""Pages for people: one HTML file that needs nothing beside it.

Enters: the name of a template in `trainer/report/templates` and what it shows. Leaves: HTML; texts are escaped.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape


def render(template: str, **values: object) -> str:
    """The template filled in; values may be functions that it calls."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    templates = Path(__file__).parent / "templates"
    return Environment(loader=FileSystemLoader(templates), autoescape=select_autoescape(), trim_blocks=True)
