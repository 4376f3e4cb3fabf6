"""`edit-r1 data`: validation of lists, rejected lines, and all commands in sequence."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from edit_r1.shared.errors import DataError
from edit_r1.trainer.tasks.task_list import read_task_list
from edit_r1.workbench.data_prep.cli import app
from tests.support.data_commands import data, read, row, save, write


def test_check_finds_what_is_broken_missing_and_repeated(tmp_path):
    save(tmp_path / "a.png", seed=1)
    Image.open(tmp_path / "a.png").save(tmp_path / "same.webp", lossless=True)
    save(tmp_path / "b.png", seed=2, size=(80, 80))
    (tmp_path / "broken.png").write_bytes((tmp_path / "b.png").read_bytes()[:200])
    sound = [
        {"prompt": "x", "image": "a.png", "task": "remove"},
        {"prompt": "x", "image": "b.png", "task": "dance"},
        {"prompt": "y", "images": ["a.png", "b.png"]},
    ]
    faulty = [
        {"prompt": "x", "image": "same.webp"},
        {"prompt": "x", "image": "gone.png"},
        {"prompt": "x", "image": "broken.png"},
    ]
    source = write(tmp_path / "list.jsonl", sound[0], faulty[0], sound[1], *faulty[1:], sound[2])
    result = CliRunner().invoke(
        app, ["check", str(source), "--out", str(tmp_path / "sound.jsonl"), "--sheet", str(tmp_path / "sheet.png")]
    )
    assert result.exit_code == 1
    assert read(tmp_path / "sound.jsonl") == sound
    table = result.output
    assert (row(table, "read"), row(table, "sound")) == (6, 3)
    assert [row(table, f"fault: {fault}") for fault in ("duplicate", "image missing", "image unreadable")] == [
        1,
        1,
        1,
    ]
    assert row(table, "task remove") == 1
    assert row(table, "task dance (the service has no task prompt for it)") == 1
    assert (row(table, "image 60x40"), row(table, "image 80x80")) == (2, 2)
    assert "list.jsonl:2: same image and prompt as line 1" in result.stderr.replace("\n", "")
    assert Image.open(tmp_path / "sheet.png").width > 3 * 128
    assert CliRunner().invoke(app, ["check", str(tmp_path / "sound.jsonl")]).exit_code == 0
    with pytest.raises(DataError, match="exists; choose another --out, or pass --restart"):
        data("check", source, "--out", tmp_path / "sound.jsonl")


@pytest.mark.parametrize(
    ("command", "line", "message"),
    [
        ("boxes", {"image": "a.png"}, "line 2: objects: Field required"),
        (
            "boxes",
            {"image": "a.png", "objects": [{"label": "x", "box": [1, 2, 3]}]},
            "line 2: objects.0.box.3: Field required",
        ),
        ("boxes", {"prompt": "x", "image": "a.png"}, "line 2: metadata: objects: Field required"),
        ("redbox", {"image": "a.png", "objects": [], "with": 1}, "line 2: unknown key 'with'; known: image, width"),
        (
            "redbox",
            '{"image": "a.png", "objects": [{"label": "x", "box": [0, 0, 1, NaN]}]}',
            "line 2: .*box.3: .*finite",
        ),
        ("text-edit", {"image": "a.png", "words": [{"text": " "}]}, "line 2: words.0.text: .*at least 1 character"),
        ("text-edit", "{broken", "line 2: Invalid JSON"),
        ("mix", {"image": "a.png"}, "line 2: prompt: Field required"),
        ("check", {"prompt": "x"}, "line 2: give one of image and images"),
    ],
)
def test_a_wrong_line_is_named_before_anything_is_written(tmp_path, command, line, message):
    good = {
        "boxes": {"image": "a.png", "objects": []},
        "redbox": {"image": "a.png", "objects": []},
        "text-edit": {"image": "a.png", "words": []},
    }.get(command, {"prompt": "x", "image": "a.png"})
    source = write(tmp_path / "in.jsonl", good, line)
    with pytest.raises(DataError, match=rf"in\.jsonl is not valid:\n  {message}"):
        data(command, source, "--out", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_lists_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*gone\.jsonl: No such file"):
        data("mix", tmp_path / "gone.jsonl", "--out", tmp_path / "out.jsonl")
    with pytest.raises(DataError, match=r"empty\.jsonl is empty"):
        data("mix", write(tmp_path / "empty.jsonl", ""), "--out", tmp_path / "out.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9"}\n')
    with pytest.raises(DataError, match="line 1: not UTF-8"):
        data("mix", tmp_path / "latin.jsonl", "--out", tmp_path / "out.jsonl")
    source = write(tmp_path / "in.jsonl", {"prompt": "x", "image": "a.png"})
    with pytest.raises(DataError, match="is the input list"):
        data("mix", source, "--out", source)


def test_from_shapes_to_a_list_that_the_trainer_reads(tmp_path):
    shapes, objects = tmp_path / "shapes/train.jsonl", tmp_path / "shapes/train.objects.jsonl"
    data("shapes", "--out", shapes, "--count", 30, "--seed", 5)
    data("boxes", objects, "--out", tmp_path / "boxes.jsonl", "--min-area", 0.1)
    data("redbox", tmp_path / "boxes.jsonl", "--out", tmp_path / "red/red.jsonl")
    data("mix", shapes, tmp_path / "red/red.jsonl", "--out", tmp_path / "mix/train.jsonl", "--cap", "extract=4")
    result = CliRunner().invoke(app, ["check", str(tmp_path / "mix/train.jsonl")])
    assert result.exit_code == 0, result.output
    tasks = read_task_list(tmp_path / "mix/train.jsonl")
    counts = Counter(task.task for task in tasks)
    assert counts["extract"] == 4
    assert counts["redbox_control"] > 20
    assert {"adjust", "remove", "replace", "background", "add"} <= set(counts)
    # The shapes set: boxes contain the object and nothing else, and equal seeds give equal images.
    for line in read(objects):
        pixels = np.asarray(Image.open(shapes.parent / line["image"])).astype(int)
        different = (pixels != pixels[0, 0]).any(-1)
        for found in line["objects"]:
            x0, y0, x1, y1 = map(int, found["box"])
            assert different[y0:y1, x0:x1].any()
            different[y0:y1, x0:x1] = False
        assert not different.any()
    data("shapes", "--out", tmp_path / "again/train.jsonl", "--count", 30, "--seed", 5)
    assert (tmp_path / "again/train.jsonl").read_bytes() == shapes.read_bytes()


def test_the_commands_need_no_torch():
    heavy = {"torch", "transformers", "fastapi", "reward_service"}
    code = f"import sys, edit_r1.workbench.data_prep.cli; print(*({heavy!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
