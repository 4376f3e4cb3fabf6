"""Model families by name. Importing this imports no torch: a family's file is imported when a run loads it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.models.base import ModelFamily

FAMILIES = {
    "flux_kontext": "trainer.models.flux_kontext:FluxKontext",
}
"""Family name -> where its class stands."""


def family_class(name: str) -> type[ModelFamily]:
    """The class of a family. Raises KeyError for an unknown name."""
    module, _, attribute = FAMILIES[name].partition(":")
    found: type[ModelFamily] = getattr(import_module(module), attribute)
    return found
