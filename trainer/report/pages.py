"""Self-contained HTML pages, rendered from the templates in `trainer/report/templates`; texts are escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape


def render(template: str, **values: object) -> str:
    """Render a template; values may be functions that the template calls."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    templates = Path(__file__).parent / "templates"
    return Environment(loader=FileSystemLoader(templates), autoescape=select_autoescape(), trim_blocks=True)
