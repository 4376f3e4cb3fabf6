"""Model families by name. Importing this imports no torch: a family's file is imported when a run loads it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.models.base import ModelFamily


@dataclass(frozen=True)
class FamilyEntry:
    """What is known of a family without loading it."""

    path: str
    """package.module:Class."""
    max_sources: int
    """Source images a task may have."""


FAMILIES = {
    "flux_kontext": FamilyEntry("trainer.models.flux_kontext:FluxKontext", max_sources=1),
    "qwen_image_edit": FamilyEntry("trainer.models.qwen_image_edit:QwenImageEdit", max_sources=1),
    "qwen_image_edit_plus": FamilyEntry("trainer.models.qwen_image_edit:QwenImageEditPlus", max_sources=3),
    "flux2_klein": FamilyEntry("trainer.models.flux2_klein:Flux2Klein", max_sources=4),
}
"""Family name -> its entry."""


def family_class(name: str) -> type[ModelFamily]:
    """The class of a family. Raises KeyError for an unknown name."""
    module, _, attribute = FAMILIES[name].path.partition(":")
    found: type[ModelFamily] = getattr(import_module(module), attribute)
    return found
