"""Imports the packages that only measures need, when a setting names such a measure."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from edit_r1.shared.errors import ConfigError


def need(module: str, measure: str) -> Any:
    """The module. Raises ConfigError that says how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{measure}: {error}; install what measures need with: pip install 'edit-r1[measures]'"
        ) from error
