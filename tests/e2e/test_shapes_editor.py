"""The editor's stages kept in a work directory: shared where that is meant, never mistaken for another recipe's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from shared.errors import CheckpointError
from worlds.shapes.train_editor import Recipe, train_editor

VAE_WEIGHTS = Path("vae/diffusion_pytorch_model.safetensors")
TRANSFORMER_WEIGHTS = Path("transformer/diffusion_pytorch_model.safetensors")
SMALL = Recipe(vae_steps=8, clean_steps=8, mixture_steps=8, num_examples=64, batch=16)


def test_kept_stages_are_shared_repeatable_and_checked(tmp_path: Path) -> None:
    work = tmp_path / "work"
    first = train_editor(tmp_path / "first", SMALL, seed=3, work=work, num_tasks=6)

    again = train_editor(tmp_path / "again", SMALL, seed=3, work=work, num_tasks=6)
    assert _equal(tmp_path, "first", "again", TRANSFORMER_WEIGHTS)  # from the kept stages, to the bit
    assert again["held_out"] == first["held_out"]

    sparring = train_editor(tmp_path / "sparring", replace(SMALL, vae_steps=9), seed=4, work=work, num_tasks=6)
    assert _equal(tmp_path, "first", "sparring", VAE_WEIGHTS)
    assert not _equal(tmp_path, "first", "sparring", TRANSFORMER_WEIGHTS)
    recipe = sparring["recipe"]
    assert isinstance(recipe, dict)
    assert (recipe["vae_seed"], recipe["vae_steps"]) == (3, SMALL.vae_steps)  # what it has, not what it asked for

    with pytest.raises(CheckpointError, match=r"clean-3 was made with clean_steps 8 instead of 9"):
        train_editor(tmp_path / "other", replace(SMALL, clean_steps=9), seed=3, work=work, num_tasks=6)
    assert not (tmp_path / "other").exists()


def _equal(directory: Path, one: str, other: str, weights: Path) -> bool:
    first, second = load_file(directory / one / weights), load_file(directory / other / weights)
    return all(bool((first[name] == second[name]).all()) for name in first)
