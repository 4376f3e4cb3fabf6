"""`edit-r1 data boxes` and `redbox`: which objects are kept, and where the red boxes are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edit_r1.shared.errors import ConfigError
from edit_r1.trainer.tasks.task_list import read_task_list
from edit_r1.workbench.data_prep.boxes import AreaLimits
from edit_r1.workbench.data_prep.geometry import area_fraction, clip, line_width, outline
from edit_r1.workbench.data_prep.redbox import RED, boxed
from tests.support.data_commands import data, read, row, save, write

SIZES = st.tuples(st.integers(1, 300), st.integers(1, 300))
COORDINATES = st.floats(-50, 400, allow_nan=False)
BOXES = st.tuples(COORDINATES, COORDINATES, COORDINATES, COORDINATES)


@given(BOXES, SIZES)
def test_a_clipped_box_lies_in_the_picture_and_in_itself(box, size):
    inside = clip(box, size)
    if inside is None:
        assert box[0] >= min(box[2], size[0]) or box[1] >= min(box[3], size[1]) or box[2] <= 0 or box[3] <= 0
        return
    x0, y0, x1, y1 = inside
    assert 0 <= x0 < x1 <= size[0]
    assert 0 <= y0 < y1 <= size[1]
    assert box[0] <= x0 <= x1 <= box[2]
    assert 0 <= area_fraction(inside, size) <= 1


@given(BOXES, SIZES, st.floats(0, 1), st.floats(0, 1))
def test_a_box_is_kept_exactly_between_the_limits(box, size, one, other):
    limits = AreaLimits(min(one, other), max(one, other))
    inside = clip(box, size)
    share = area_fraction(inside, size) if inside else None
    kept = limits.why_not(box, size) is None
    assert kept == (share is not None and limits.minimum <= share <= limits.maximum)


def test_objects_are_dropped_with_their_reasons(tmp_path):
    boxes = {"speck": [0, 0, 2, 2], "dog": [10, 10, 40, 30], "sky": [0, 0, 60, 39], "gone": [70, 0, 90, 20]}
    objects = [{"label": label, "box": box} for label, box in boxes.items()]
    save(tmp_path / "images/a.png")
    source = write(
        tmp_path / "in.jsonl",
        {"image": "images/a.png", "objects": objects},
        {"image": "elsewhere.png", "width": 60, "height": 40, "objects": objects[:1]},
        {"image": "elsewhere.png", "objects": objects},
    )
    table = data("boxes", source, "--out", tmp_path / "lists/out.jsonl", "--min-area", 0.1, "--max-area", 0.5)
    assert read(tmp_path / "lists/out.jsonl") == [
        {"image": "../images/a.png", "objects": [{"label": "dog", "box": [10.0, 10.0, 40.0, 30.0]}]}
    ]
    assert (row(table, "read"), row(table, "written")) == (3, 1)
    assert row(table, "dropped: object below the minimum area") == 2
    assert row(table, "dropped: object above the maximum area") == 1
    assert row(table, "dropped: object empty or outside its image") == 1
    assert row(table, "dropped: image with no objects left") == 1
    assert row(table, "dropped: image missing") == 1


def test_a_task_is_kept_when_all_its_objects_are(tmp_path):
    save(tmp_path / "a.png")
    fit, speck = {"label": "dog", "box": [0, 0, 30, 20]}, {"label": "fly", "box": [0, 0, 1, 1]}
    task = {"prompt": "remove the dog", "image": "a.png", "task": "remove"}
    kept = {**task, "metadata": {"objects": [fit], "id": 7}}
    source = write(tmp_path / "in.jsonl", kept, {**task, "metadata": {"objects": [fit, speck]}})
    table = data("boxes", source, "--out", tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl") == [kept]
    assert row(table, "dropped: task with a dropped object") == 1


def test_the_size_of_a_turned_photo_is_that_of_the_upright_one(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (60, 20)).save(tmp_path / "a.jpg", exif=turned)
    source = write(tmp_path / "in.jsonl", {"image": "a.jpg", "objects": [{"label": "x", "box": [0, 30, 20, 60]}]})
    data("boxes", source, "--out", tmp_path / "out.jsonl")
    assert len(read(tmp_path / "out.jsonl")) == 1


@given(BOXES, SIZES, st.floats(0, 0.1))
def test_the_red_line_stays_in_the_picture_and_off_the_object(box, size, fraction):
    inside = clip(box, size)
    if inside is None:
        return
    width = line_width(size, fraction)
    x0, y0, x1, y1 = outline(inside, size, width)
    assert 0 <= x0 < x1 <= size[0]
    assert 0 <= y0 < y1 <= size[1]
    blank = Image.new("RGB", size, "white")
    pixels = np.asarray(boxed(blank, (x0, y0, x1, y1), width))
    red = (pixels == RED).all(-1)
    assert red.any()
    assert ((pixels == 255).all(-1) | red).all()
    columns, rows = np.nonzero(red.any(0))[0], np.nonzero(red.any(1))[0]
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (x0, x1 - 1, y0, y1 - 1)
    # Nothing is painted inside the line; it covers the object only at the image border.
    left = int(inside[0]) if x0 else width
    top = int(inside[1]) if y0 else width
    right = -(-inside[2] // 1) if x1 < size[0] else size[0] - width
    bottom = -(-inside[3] // 1) if y1 < size[1] else size[1] - width
    assert not red[top : int(bottom), left : int(right)].any()


def test_a_redbox_task_has_its_own_picture_and_says_what_it_is_about(tmp_path):
    save(tmp_path / "in/a.png")
    objects = [{"label": "dog", "box": [10, 10, 30, 25]}, {"label": "cat", "box": [35, 5, 55, 30]}]
    source = write(
        tmp_path / "in/list.jsonl", *({"image": "a.png", "objects": objects, "metadata": {"n": n}} for n in range(30))
    )
    table = data("redbox", source, "--out", tmp_path / "out/red.jsonl", "--per-picture", 2, "--seed", 3)
    tasks = read_task_list(tmp_path / "out/red.jsonl")
    assert row(table, "written") == len(tasks) == 60
    assert {task.task for task in tasks} == {"redbox_control"}
    assert {task.metadata["kind"] for task in tasks} == {"adjust", "remove", "replace"}
    before = np.asarray(Image.open(tmp_path / "in/a.png").convert("RGB"))
    for task in tasks:
        assert "red box" in task.instruction
        other = {"dog": "cat", "cat": "dog"}[task.metadata["label"]]
        assert (f"a {other}" in task.instruction) == (task.metadata["kind"] == "replace")
        after = np.asarray(task.sources[0].open())
        changed = (before != after).any(-1)
        assert (after[changed] == RED).all()
        x0, y0, x1, y1 = map(int, task.metadata["box"])
        assert changed.any()
        assert not changed[y0:y1, x0:x1].any()


def test_redbox_takes_nouns_from_a_file_and_one_kind(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "nouns.txt").write_text("owl\n\nthe moon\n")
    line = {"image": "a.png", "objects": [{"label": "dog", "box": [10, 10, 30, 25]}]}
    source = write(tmp_path / "in.jsonl", *({**line, "metadata": {"n": n}} for n in range(20)))
    arguments = ["redbox", source, "--out", tmp_path / "out.jsonl", "--kind", "replace"]
    assert row(data(*arguments), "dropped: object without a possible replacement") == 20
    data(*arguments, "--nouns", tmp_path / "nouns.txt", "--restart")
    prompts = {line["prompt"] for line in read(tmp_path / "out.jsonl")}
    assert {next(noun for noun in ("an owl", "the moon") if noun in prompt) for prompt in prompts} == {
        "an owl",
        "the moon",
    }
    with pytest.raises(ConfigError, match="--kind paint: must be one of adjust, remove, replace"):
        data(*arguments, "--kind", "paint")


def test_pictures_that_cannot_be_boxed_are_counted(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    objects = [{"label": "dog", "box": [10, 10, 30, 25]}]
    source = write(
        tmp_path / "in.jsonl",
        {"image": "gone.png", "objects": objects},
        {"image": "b.png", "objects": objects},
        {"image": "a.png", "width": 600, "height": 400, "objects": objects},
        {"image": "a.png", "objects": []},
    )
    table = data("redbox", source, "--out", tmp_path / "out.jsonl")
    reasons = ("missing", "unreadable", "not of the annotated size", "without a usable object")
    assert [row(table, f"dropped: image {reason}") for reason in reasons] == [1, 1, 1, 1]
    assert (row(table, "read"), row(table, "written")) == (4, 0)
