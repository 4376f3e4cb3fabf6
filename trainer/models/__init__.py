"""Model families by name; one file per family. Importing this does not import torch: a run imports its family when
loading it.

base             what the trainer needs from an image editor
flux_kontext     FLUX.1-Kontext
qwen_image_edit  Qwen-Image-Edit and Qwen-Image-Edit-Plus
flux2_klein      FLUX.2 [klein]
sampling         true classifier-free guidance; settings of published samples
packing          2x2 patches of latents <-> tokens
sigma_grid       sigma grids shifted by the number of image tokens
skeleton         a pipeline without its weights
unread           a transformer whose weights are still in their files, for sharding
quantizing       frozen weights in fewer bits
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from edit_r1.shared.errors import ConfigError

if TYPE_CHECKING:
    from edit_r1.trainer.models.base import ModelFamily


@dataclass(frozen=True)
class FamilyEntry:
    """Facts about a family that are available without loading it."""

    path: str
    """package.module:Class."""
    pipeline: str
    """The diffusers pipeline class whose weights it loads, as named in model_index.json."""
    max_sources: int
    """Maximum number of source images per task; the same as the class attribute."""


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
"""Family name -> its entry. Third-party families are named by import path, package.module:Class."""


def family_class(name: str) -> type[ModelFamily]:
    """The class of a family. Raises ConfigError for an unknown name or an import path that does not resolve."""
    module, _, attribute = (FAMILIES[name].path if name in FAMILIES else name).partition(":")
    try:
        found: type[ModelFamily] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"model.family = {name!r}: {error}") from error
    return found


def family_of_pipeline(pipeline: str) -> str | None:
    """Name of the built-in family that loads this diffusers pipeline class; None when there is none."""
    return next((name for name, entry in FAMILIES.items() if entry.pipeline == pipeline), None)


def max_sources(name: str) -> int:
    """Maximum number of source images per task. Imports third-party families. Raises ConfigError."""
    return FAMILIES[name].max_sources if name in FAMILIES else family_class(name).max_sources
