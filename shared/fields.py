"""Types of fields that several schemas have: one text stands for a list of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator


def _as_tuple(value: object) -> object:
    """A text in a tuple; anything else as it is, for pydantic to judge."""
    return (value,) if isinstance(value, str) else value


OneOrMore = BeforeValidator(_as_tuple, json_schema_input_type=str | list[str])
"""Before a list or tuple of texts."""

Names = Annotated[tuple[str, ...], OneOrMore]
"""One name, or several in order."""
