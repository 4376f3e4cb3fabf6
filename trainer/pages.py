"""Pages for people: one HTML file that needs nothing beside it.

Enters: the name of a template in `trainer/templates` and what it shows. Leaves: HTML; texts are escaped.
"""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape

from shared import images


def render(template: str, **values: object) -> str:
    """The template filled in; values may be functions that it calls."""
    return _environment().get_template(template).render(values)


def data_url(picture: bytes) -> str:
    """An encoded picture as the address of itself, for <img src>."""
    return f"data:{images.mime_type(picture)};base64,{base64.b64encode(picture).decode()}"


@cache
def _environment() -> Environment:
    templates = Path(__file__).parent / "templates"
    return Environment(loader=FileSystemLoader(templates), autoescape=select_autoescape(), trim_blocks=True)
