"""The package's files can be found from any directory by their documented paths."""

from pathlib import Path

import pytest

from edit_r1.trainer.config import ModelConfig
from edit_r1.trainer.machine import bundled_files
from edit_r1.trainer.tasks.task_list import read_task_list

ROOT = Path(__file__).resolve().parents[3]
EDITOR = "worlds/shapes/editor"
HELD_OUT = Path("worlds/shapes/data/held_out.jsonl")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_there_comes_first(elsewhere):
    (elsewhere / EDITOR).mkdir(parents=True)
    assert bundled_files.find(EDITOR) == EDITOR


def test_else_it_is_the_packages(elsewhere):
    assert Path(bundled_files.find(EDITOR)) == ROOT / EDITOR
    assert bundled_files.find_path(HELD_OUT) == ROOT / HELD_OUT


@pytest.mark.parametrize(
    "name", ["black-forest-labs/FLUX.1-Kontext-dev", "worlds/none", "worlds/../README.md", "README.md"]
)
def test_other_names_stay_as_they_are(elsewhere, name):
    assert bundled_files.find(name) == name
    assert bundled_files.find(str(elsewhere / EDITOR)) == str(elsewhere / EDITOR)


def test_a_configuration_keeps_the_short_name_and_leads_to_the_files(elsewhere):
    model = ModelConfig(path=EDITOR)
    assert model.path == EDITOR
    assert Path(model.location, "model_index.json").is_file()
    assert read_task_list(HELD_OUT)[0].sources[0].open().size == (32, 32)
