"""`edit-r1 data`: what each command keeps, draws and writes, and all of them in a row."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from reward_service.methods.templates import TASKS_DIRECTORY, load_task_prompts, task_key
from shared.errors import DataError
from tests.support.data_commands import data, read, row, save, write
from trainer.data import read_task_list
from trainer.data_prep import mix
from trainer.data_prep.boxes import AreaLimits
from trainer.data_prep.cli import app
from trainer.data_prep.formats import TASK_TYPES
from trainer.data_prep.geometry import area_fraction, clip, line_width, outline
from trainer.data_prep.redbox import RED, boxed
from trainer.data_prep.streaming import rng_of
from trainer.data_prep.text_edit import OPERATIONS, alter, can_be_altered

SIZES = st.tuples(st.integers(1, 300), st.integers(1, 300))
COORDINATES = st.floats(-50, 400, allow_nan=False)
BOXES = st.tuples(COORDINATES, COORDINATES, COORDINATES, COORDINATES)


# ---- boxes


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
    assert row(table, "dropped: object empty or outside its picture") == 1
    assert row(table, "dropped: picture without an object left") == 1
    assert row(table, "dropped: picture missing") == 1


def test_a_task_is_kept_when_all_its_objects_are(tmp_path):
    save(tmp_path / "a.png")
    fit, speck = {"label": "dog", "box": [0, 0, 30, 20]}, {"label": "fly", "box": [0, 0, 1, 1]}
    task = {"prompt": "remove the dog", "image": "a.png", "task": "remove"}
    kept = {**task, "metadata": {"objects": [fit], "id": 7}}
    source = write(tmp_path / "in.jsonl", kept, {**task, "metadata": {"objects": [fit, speck]}})
    table = data("boxes", source, "--out", tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl") == [kept]
    assert row(table, "dropped: task whose object was dropped") == 1


def test_the_size_of_a_turned_photo_is_that_of_the_upright_one(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (60, 20)).save(tmp_path / "a.jpg", exif=turned)
    source = write(tmp_path / "in.jsonl", {"image": "a.jpg", "objects": [{"label": "x", "box": [0, 30, 20, 60]}]})
    data("boxes", source, "--out", tmp_path / "out.jsonl")
    assert len(read(tmp_path / "out.jsonl")) == 1


# ---- redbox


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
    # Inside the line nothing is painted; it runs over the object only where the picture ends.
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
        after = np.asarray(Image.open(task.source_paths[0]))
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
    assert row(data(*arguments), "dropped: object with nothing to replace it with") == 20
    data(*arguments, "--nouns", tmp_path / "nouns.txt", "--restart")
    prompts = {line["prompt"] for line in read(tmp_path / "out.jsonl")}
    assert {next(noun for noun in ("an owl", "the moon") if noun in prompt) for prompt in prompts} == {
        "an owl",
        "the moon",
    }
    with pytest.raises(DataError, match="--kind paint: one of adjust, remove, replace"):
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
    reasons = ("missing", "unreadable", "not of the size annotated", "without a usable object")
    assert [row(table, f"dropped: picture {reason}") for reason in reasons] == [1, 1, 1, 1]
    assert (row(table, "read"), row(table, "written")) == (4, 0)


# ---- text-edit


@given(
    st.text(min_size=1, max_size=12),
    st.integers(1, 4),
    st.integers(0, 9),
    st.sets(st.sampled_from(OPERATIONS), min_size=1),
)
def test_an_altered_word_differs_and_keeps_its_length_within_the_changes(word, num_changes, seed, chosen):
    word, operations = word.strip(), tuple(name for name in OPERATIONS if name in chosen)
    if not can_be_altered(word, operations):
        with pytest.raises(ValueError, match="cannot be altered"):
            alter(rng_of(seed, word), word, num_changes, operations)
        return
    after = alter(rng_of(seed, word), word, num_changes, operations)
    assert after != word
    assert after == after.strip() != ""
    assert len(after) <= len(word) + num_changes * ("insert" in operations)
    assert len(after) >= len(word) - num_changes * ("delete" in operations)
    if operations == ("swap",):
        assert Counter(after) == Counter(word)
    if operations == ("substitute",):
        assert 0 < sum(one != other for one, other in zip(word, after, strict=True)) <= num_changes
        assert [char.isupper() for char in after] == [char.isupper() for char in word]


def test_words_become_tasks_or_reasons(tmp_path):
    texts = ["SALE", "ON", 'so"called', "twice", "twice", "!!!"]
    save(tmp_path / "images/a.png")
    line = {"image": "a.png", "words": [{"text": text, "box": [1, 2, 30, 20]} for text in texts]}
    source = write(tmp_path / "images/in.jsonl", line, {"image": "a.png", "words": []})
    table = data("text-edit", source, "--out", tmp_path / "out.jsonl")
    (task,) = read_task_list(tmp_path / "out.jsonl")
    assert task.task == "text_edit"
    assert task.metadata["before"] == "SALE" != task.metadata["after"]
    assert task.instruction == f'replace the text "SALE" with "{task.metadata["after"]}"'
    assert row(table, "dropped: word below --min-length") == 1
    assert row(table, "dropped: word with a quotation mark") == 1
    assert row(table, "dropped: word that stands more than once in its picture") == 2
    assert row(table, "dropped: word with nothing to alter") == 1
    assert row(table, "dropped: picture without a usable word") == 1


def test_choices_follow_the_line_not_its_place(tmp_path):
    save(tmp_path / "a.png")
    lines = [{"image": "a.png", "words": [{"text": f"word{n}"}, {"text": f"other{n}"}]} for n in range(20)]
    outputs = []
    for name, order in (("there", lines), ("back", lines[::-1])):
        data("text-edit", write(tmp_path / f"{name}.jsonl", *order), "--out", tmp_path / f"{name}-out.jsonl")
        outputs.append((tmp_path / f"{name}-out.jsonl").read_text().splitlines())
    assert outputs[0] == outputs[1][::-1]


# ---- mix


@st.composite
def task_lists(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    lines = st.fixed_dictionaries(
        {"prompt": st.sampled_from([f"do {n}" for n in range(12)]), "image": st.just("a.png")},
        optional={"task": st.sampled_from(["remove", "extract", "Text Edit", "text_edit"])},
    )
    return draw(st.lists(st.lists(lines, min_size=1, max_size=12), min_size=1, max_size=3))


@settings(max_examples=40)
@given(task_lists(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_a_mixture_honours_caps_and_does_not_depend_on_order(tmp_path_factory, lists, cap, random):
    folder = tmp_path_factory.mktemp("mix")
    caps = ["--cap", f"extract={cap}", "--cap", f"Text Edit={cap}"]
    shuffled = [random.sample(lines, len(lines)) for lines in random.sample(lists, len(lists))]
    written = []
    for name, order in (("one", lists), ("other", shuffled)):
        paths = [write(folder / name / f"{i}.jsonl", *lines) for i, lines in enumerate(order)]
        table = data("mix", *paths, "--out", folder / name / "out.jsonl", "--seed", 1, *caps)
        written.append((folder / name / "out.jsonl").read_bytes())
        dropped = sum(int(line.split("│")[2].replace(",", "")) for line in table.splitlines() if "dropped" in line)
        assert row(table, "read") == sum(map(len, lists)) == (row(table, "written") or 0) + dropped
    assert written[0] == written[1]
    lines = [json.loads(line) for line in written[0].splitlines()]
    distinct = {json.dumps(line, sort_keys=True): line for one in lists for line in one}
    available = Counter(mix.task_key(line.get("task")) for line in distinct.values())
    kept = Counter(mix.task_key(line.get("task")) for line in lines)
    limits = {"extract": cap, "text_edit": cap}
    assert kept == +Counter({task: min(number, limits.get(task, number)) for task, number in available.items()})
    assert len({json.dumps(line, sort_keys=True) for line in lines}) == len(lines)


def test_reference_and_extract_are_capped_as_in_the_paper(tmp_path):
    lines = [
        {"prompt": f"keep {n}", "image": "a.png", "task": task} for n in range(601) for task in ("extract", "remove")
    ]
    source = write(tmp_path / "in.jsonl", *lines)
    table = data("mix", source, "--out", tmp_path / "out.jsonl")
    assert row(table, "dropped: extract above its cap of 600") == 1
    assert Counter(line["task"] for line in read(tmp_path / "out.jsonl")) == {"extract": 600, "remove": 601}
    assert row(data("mix", source, "--out", tmp_path / "all.jsonl", "--cap", "extract=all"), "written") == 1202
    with pytest.raises(DataError, match="--cap 'extract' must read TASK=N or TASK=all"):
        data("mix", source, "--out", tmp_path / "x.jsonl", "--cap", "extract")


def test_a_mixture_of_lists_in_other_folders_finds_its_pictures(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / name / "images/1.png")
        write(tmp_path / name / "list.jsonl", {"prompt": f"do {name}", "images": ["images/1.png", "images/1.png"]})
    absolute = {"prompt": "here", "image": str(tmp_path / "a/images/1.png")}
    more = write(tmp_path / "more.jsonl", absolute)
    data("mix", tmp_path / "a/list.jsonl", tmp_path / "b/list.jsonl", more, "--out", tmp_path / "m/out.jsonl")
    tasks = {task.instruction: task for task in read_task_list(tmp_path / "m/out.jsonl")}
    assert [path.resolve().parent.parent.name for path in tasks["do a"].source_paths] == ["a", "a"]
    assert tasks["here"].source_paths == (tmp_path / "a/images/1.png",)


def test_task_names_are_those_of_the_service():
    assert set(TASK_TYPES) == set(load_task_prompts(TASKS_DIRECTORY)) - {"default"}
    for name in ("Text Edit", "text-edit", " redbox_control"):
        assert mix.task_key(name) == task_key(name)


# ---- check


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
    assert [row(table, f"fault: {fault}") for fault in ("duplicate", "picture missing", "picture unreadable")] == [
        1,
        1,
        1,
    ]
    assert row(table, "task remove") == 1
    assert row(table, "task dance (the service has no task prompt for it)") == 1
    assert (row(table, "picture 60x40"), row(table, "picture 80x80")) == (2, 2)
    assert "list.jsonl:2: same picture, same prompt as line 1" in result.stderr.replace("\n", "")
    assert Image.open(tmp_path / "sheet.png").width > 3 * 128
    assert CliRunner().invoke(app, ["check", str(tmp_path / "sound.jsonl")]).exit_code == 0
    with pytest.raises(DataError, match="exists; name another --out, or --restart"):
        data("check", source, "--out", tmp_path / "sound.jsonl")


# ---- lines that are none


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
        ("check", {"prompt": "x"}, "line 2: give either image or images"),
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
    with pytest.raises(DataError, match="holds no line"):
        data("mix", write(tmp_path / "empty.jsonl", ""), "--out", tmp_path / "out.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9"}\n')
    with pytest.raises(DataError, match="line 1: not UTF-8"):
        data("mix", tmp_path / "latin.jsonl", "--out", tmp_path / "out.jsonl")
    source = write(tmp_path / "in.jsonl", {"prompt": "x", "image": "a.png"})
    with pytest.raises(DataError, match="is the list to read"):
        data("mix", source, "--out", source)


# ---- all in a row


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
    # Shapes themselves are the world's: boxes hold the object and nothing else, and the same seed draws the same.
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
    code = f"import sys, trainer.data_prep.cli; print(*({heavy!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
