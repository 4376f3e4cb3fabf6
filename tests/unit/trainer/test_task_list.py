import json
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from edit_r1.shared.errors import DataError
from edit_r1.trainer.mathematics.sizes import one_size
from edit_r1.trainer.tasks.task_list import describe_tasks, load_sources, read_task_list


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (40, 20), "red").save(tmp_path / "images" / f"{name}.png")
    return tmp_path


def write(folder: Path, *lines: object) -> Path:
    path = folder / "tasks.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_every_field_of_a_line_arrives(folder):
    line = {
        "prompt": " make\u2028it red ",
        "image": ["images/a.png", "images/b.png"],
        "requirement": "only the car",
        "task": "adjust",
        "metadata": {"n": 1},
    }
    (task,) = read_task_list(write(folder, "", json.dumps(line, ensure_ascii=False), ""))
    assert task.instruction == "make\u2028it red"  # a separator to Unicode, not to JSON
    assert task.source_paths == (folder / "images/a.png", folder / "images/b.png")
    assert (task.requirement, task.task, task.metadata) == ("only the car", "adjust", {"n": 1})


def test_several_images_anywhere_under_a_root(folder, tmp_path_factory):
    lists = tmp_path_factory.mktemp("lists")
    path = write(
        lists, {"prompt": "x", "images": ["images/b.png", "images/a.png"]}, {"prompt": "y", "image": "images/a.png"}
    )
    several, one = read_task_list(path, folder)
    assert several.source_paths == (folder / "images/b.png", folder / "images/a.png")
    assert one.source_paths == (folder / "images/a.png",)


def test_a_list_is_described_in_a_line(folder):
    Image.new("RGB", (90, 60)).save(folder / "images/b.png")
    lines = [
        {"prompt": "make it red", "image": "images/a.png", "task": "adjust"},
        {
            "prompt": "put a hat on it",
            "images": ["images/a.png", "images/b.png"],
            "task": "add",
            "requirement": "keep it",
        },
        {"prompt": "make it red", "image": "images/a.png", "task": "adjust"},
    ]
    assert describe_tasks(read_task_list(write(folder, *lines))) == (
        "3 tasks (adjust 2, add 1), 2 images of 40x20 to 90x60, sources per task: 1 to 2, "
        "words per instruction: 3 to 5, repeated lines: 1, with own requirement: 1"
    )


def test_a_photo_that_lies_on_its_side_counts_as_it_is_looked_at(folder):
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (90, 60)).save(folder / "images/a.jpg", exif=turned)
    (task,) = tasks = read_task_list(write(folder, {"prompt": "x", "image": "images/a.jpg"}))
    assert "1 images of 60x90" in describe_tasks(tasks)
    assert load_sources(task, lambda size: size)[0].size == (60, 90)


def test_ids_follow_the_task_not_its_line(folder):
    first, second = {"prompt": "x", "image": "images/a.png"}, {"prompt": "x", "image": "images/b.png"}
    there = read_task_list(write(folder, first, second))
    back = read_task_list(write(folder, second, first))
    assert [task.id for task in there] == [task.id for task in reversed(back)]
    assert there[0].id != there[1].id  # the same instruction on two images is two groups


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "line 2: Invalid JSON"),
        ("[1]", "line 2: .*object"),
        ({"image": "images/a.png"}, "line 2: prompt: Field required"),
        ({"prompt": "  ", "image": "images/a.png"}, "line 2: prompt: .*at least 1 character"),
        ({"prompt": "x"}, "line 2: give one of image and images"),
        ({"prompt": "x", "image": "images/a.png", "images": ["images/b.png"]}, "line 2: give one of image and images"),
        ({"prompt": "x", "images": "images/a.png"}, "line 2: images: .*valid (array|list|tuple)"),
        ({"prompt": "x", "image": []}, "line 2: image"),
        ({"prompt": "x", "image": "images/gone.png"}, "line 2: image file .*images/gone.png does not exist"),
        ({"prompt": "x", "image": "images/a.png", "promt": 1}, "line 2: unknown key 'promt'; known: prompt, image"),
    ],
)
def test_a_bad_line_is_named_with_its_number(folder, line, message):
    path = write(folder, {"prompt": "x", "image": "images/a.png"}, line)
    with pytest.raises(DataError, match=message):
        read_task_list(path)


def test_all_faults_are_told_at_once_but_not_thousands(folder):
    lines = [{"prompt": "x", "image": f"images/{i}.png"} for i in range(50)]
    with pytest.raises(DataError) as caught:
        read_task_list(write(folder, *lines))
    assert str(caught.value).count("does not exist") == 10
    assert "and 40 more" in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_list_is_an_error(folder, content):
    with pytest.raises(DataError, match=r"task list .* is empty"):
        read_task_list(write(folder, content))


def test_a_list_that_is_not_there_is_an_error(folder):
    with pytest.raises(DataError, match="cannot read task list"):
        read_task_list(folder / "gone.jsonl")


def test_sources_come_at_the_size_of_the_run(folder):
    (task,) = read_task_list(write(folder, {"prompt": "x", "image": "images/a.png"}))
    assert [image.size for image in load_sources(task, one_size((64, 32)))] == [(64, 32)]


def test_an_unreadable_source_is_named(folder):
    (folder / "images/a.png").write_bytes(b"not an image")
    (task,) = read_task_list(write(folder, {"prompt": "x", "image": "images/a.png"}))
    with pytest.raises(DataError, match=r"images/a\.png.*not a readable image"):
        load_sources(task, one_size((64, 32)))
