"""Stages of the world's trainings: cached, reused by the same recipe, rejected for another."""

import pytest

from edit_r1.shared.errors import CheckpointError
from edit_r1.worlds.shapes.training.stages import keep_stage, read_made_by
from edit_r1.worlds.shapes.training.train_editor import EditorRecipe
from edit_r1.worlds.shapes.training.train_judge import JudgeRecipe

MADE_BY = {"seed": 3, "steps": 8, "rate": 0.002}


@pytest.fixture
def kept(tmp_path):
    """A cached stage, and the recorded calls of its `make` function."""
    calls = []

    def keep(made_by):
        return keep_stage(tmp_path / "clean-3", made_by, make)

    def make(directory):
        calls.append(directory)
        directory.mkdir(exist_ok=True)
        (directory / "weights").write_text("trained")

    keep(MADE_BY)
    return tmp_path / "clean-3", calls, keep


def test_a_kept_stage_is_not_made_again(kept):
    directory, calls, keep = kept
    keep(MADE_BY)
    assert calls == [directory]
    assert read_made_by(directory) == MADE_BY


def test_a_stage_of_another_recipe_is_refused_with_what_differs(kept):
    directory, calls, keep = kept
    with pytest.raises(CheckpointError, match=r"clean-3 contains a stage of another recipe: .*; delete it") as refused:
        keep({"seed": 3, "steps": 9, "batch": 64})
    assert "batch was None, now 64; rate was 0.002, now None; steps was 8, now 9" in str(refused.value)
    assert calls == [directory]


def test_a_stage_that_was_cut_off_is_no_stage_and_is_made_again(kept):
    directory, calls, keep = kept
    (directory / "stage.json").unlink()
    with pytest.raises(CheckpointError, match=r"clean-3 contains no finished stage: stage\.json is missing"):
        read_made_by(directory)
    keep(MADE_BY)
    assert calls == [directory, directory]


@pytest.mark.parametrize("recipe", [EditorRecipe(), JudgeRecipe()])
def test_a_scale_multiplies_steps_and_examples_alone(recipe):
    half, least = recipe.scaled(0.5), recipe.scaled(0)
    assert half.num_examples == recipe.num_examples / 2
    assert {getattr(least, name) for name in recipe.SCALED} == {8}
    assert least.batch == recipe.batch
