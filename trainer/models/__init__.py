"""Model families by name. Importing this imports no torch: a family's file is imported when a run loads it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from edit_r1.shared.errors import ConfigError

if TYPE_CHECKING:
    from edit_r1.trainer.models.base import ModelFamily


@dataclass(frozen=True)
class FamilyEntry:
    """What is known of a family without loading it."""

    path: str
    """package.module:Class."""
    pipeline: str
    """Class of diffusers whose weights it loads, as a pipeline's model_index.json names it."""
    max_sources: int
    """Source images a task may have; the class says the same."""


FAMILIES = {
    "flux_kontext": FamilyEntry(
        "edit_r1.trainer.models.flux_kontext:FluxKontext", "FluxKontextPipeline", max_sources=1
    ),
    "qwen_image_edit": FamilyEntry(
        "edit_r1.trainer.models.qwen_image_edit:QwenImageEdit", "QwenImageEditPipeline", max_sources=1
    ),
    "qwen_image_edit_plus": FamilyEntry(
        "edit_r1.trainer.models.qwen_image_edit:QwenImageEditPlus", "QwenImageEditPlusPipeline", max_sources=3
    ),
    "flux2_klein": FamilyEntry("edit_r1.trainer.models.flux2_klein:Flux2Klein", "Flux2KleinPipeline", max_sources=4),
}
"""Family name -> its entry. Anybody else's family is named by its import path, package.module:Class."""


def family_class(name: str) -> type[ModelFamily]:
    """The class of a family. Raises ConfigError for a name or an import path that leads nowhere."""
    module, _, attribute = (FAMILIES[name].path if name in FAMILIES else name).partition(":")
    try:
        found: type[ModelFamily] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"model.family = {name!r}: {error}") from error
    return found


def family_of_pipeline(pipeline: str) -> str | None:
    """Name of the family that loads this class of diffusers; None: no family of ours does."""
    return next((name for name, entry in FAMILIES.items() if entry.pipeline == pipeline), None)


def max_sources(name: str) -> int:
    """Source images a task of this family may have. Imports somebody else's family. Raises ConfigError."""
    return FAMILIES[name].max_sources if name in FAMILIES else family_class(name).max_sources
