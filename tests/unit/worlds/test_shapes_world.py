"""The shapes world: its oracle, its two splits, its files."""

from __future__ import annotations

import filecmp
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edit_r1.worlds.shapes.training.judge_words import read_scene
from edit_r1.worlds.shapes.world.make_data import write_data, write_samples
from edit_r1.worlds.shapes.world.oracle import SUCCESS_THRESHOLD, score_pixels
from edit_r1.worlds.shapes.world.scenes import BACKGROUNDS, Pixels, Scene, render, to_pixels
from edit_r1.worlds.shapes.world.tasks import TASKS, Split, sample_task, split_of

seeds = st.integers(0, 2**32)
splits = st.sampled_from(["train", "held_out"])


@given(seeds, splits)
def test_the_target_scores_one_and_the_untouched_source_zero(seed: int, split: Split) -> None:
    task = sample_task(np.random.default_rng(seed), split)
    source, target = render(task.source), render(task.target)
    assert score_pixels(source, target, target) == 1.0
    assert score_pixels(source, target, source) == 0.0


@given(seeds)
def test_more_of_the_edit_never_scores_less(seed: int) -> None:
    task = sample_task(np.random.default_rng(seed), "train")
    source, target = render(task.source), render(task.target)
    shares = np.linspace(0, 1, 6)
    scores = [score_pixels(source, target, _blend(source, target, a)) for a in shares]
    assert scores == sorted(scores)


@given(seeds, st.sampled_from(sorted(BACKGROUNDS)))
def test_damage_outside_the_edit_costs(seed: int, background: str) -> None:
    task = sample_task(np.random.default_rng(seed), "train")
    source, target = render(task.source), render(task.target)
    score = score_pixels(source, target, render(Scene(background, task.target.cells)))
    assert (score == 1.0) == (background == task.target.background)
    assert (score < SUCCESS_THRESHOLD) == (background != task.target.background)


@given(seeds, splits)
def test_a_scene_survives_json_and_pixels(seed: int, split: Split) -> None:
    source = sample_task(np.random.default_rng(seed), split).source
    assert split_of(source) == split
    assert Scene.from_json(json.loads(json.dumps(source.to_json()))) == source
    assert read_scene(render(source)) == source


def test_task_lists_name_existing_pictures_of_their_own_side(shapes_dir: Path) -> None:
    images: dict[str, set[str]] = {}
    for split in ("train", "held_out"):
        lines = [json.loads(line) for line in (shapes_dir / "data" / f"{split}.jsonl").read_text().splitlines()]
        assert set(Counter(line["task"] for line in lines)) == set(TASKS)
        for line in lines:
            source = Scene.from_json(line["metadata"]["source"])
            assert split_of(source) == split
            assert (to_pixels(Image.open(shapes_dir / "data" / line["image"])) == render(source)).all()
        images[split] = {Scene.from_json(line["metadata"]["source"]).digest() for line in lines}
    assert not images["train"] & images["held_out"]


def test_samples_show_a_right_and_a_wrong_edit(shapes_dir: Path) -> None:
    folders = sorted((shapes_dir / "samples").iterdir())
    assert len(folders) == 12
    for folder in folders:
        source, done, untouched, wrong = (
            to_pixels(Image.open(folder / f"{name}.png")) for name in ("source", "done", "untouched", "wrong")
        )
        assert (folder / "instruction.txt").read_text().strip()
        assert (untouched == source).all()
        assert score_pixels(source, done, wrong) < SUCCESS_THRESHOLD


def test_the_files_are_what_the_command_writes(shapes_dir: Path, tmp_path: Path) -> None:
    write_data(tmp_path)
    write_samples(tmp_path)
    for directory in ("data", "samples"):
        _assert_equal(filecmp.dircmp(shapes_dir / directory, tmp_path / directory, ignore=[]))


def _blend(source: Pixels, target: Pixels, share: float) -> Pixels:
    return (source + share * (target.astype(float) - source)).astype(np.uint8)


def _assert_equal(comparison: filecmp.dircmp[str]) -> None:
    names = comparison.left_only + comparison.right_only + comparison.diff_files + comparison.funny_files
    if names:
        pytest.fail(f"differ from what make_data writes: {names}")
    for child in comparison.subdirs.values():
        _assert_equal(child)
