"""Field types shared by several schemas: a single string is accepted as a list of one."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator


def _as_tuple(value: object) -> object:
    """Wraps a string in a tuple; returns anything else unchanged, for pydantic to validate."""
    return (value,) if isinstance(value, str) else value


OneOrMore = BeforeValidator(_as_tuple, json_schema_input_type=str | list[str])
"""Validator to put before a list or tuple of strings."""

Names = Annotated[tuple[str, ...], OneOrMore]
"""One name, or several in order."""
