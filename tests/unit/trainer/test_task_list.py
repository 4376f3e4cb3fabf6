import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageDraw

from edit_r1.shared.errors import DataError
from edit_r1.shared.sources import FileSource
from edit_r1.trainer.mathematics.sizes import buckets, one_size
from edit_r1.trainer.tasks import index_builder
from edit_r1.trainer.tasks.task_list import describe_tasks, load_sources, read_task_list, resized

SIDES = st.integers(100, 900)
TARGETS = st.sampled_from([(512, 512), (640, 384), (256, 448)])


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
    assert task.sources == (FileSource(folder / "images/a.png"), FileSource(folder / "images/b.png"))
    assert (task.requirement, task.task, task.metadata) == ("only the car", "adjust", {"n": 1})


def test_several_images_anywhere_under_a_root(folder, tmp_path_factory):
    lists = tmp_path_factory.mktemp("lists")
    path = write(
        lists, {"prompt": "x", "images": ["images/b.png", "images/a.png"]}, {"prompt": "y", "image": "images/a.png"}
    )
    several, one = read_task_list(path, folder)
    assert several.sources == (FileSource(folder / "images/b.png"), FileSource(folder / "images/a.png"))
    assert one.sources == (FileSource(folder / "images/a.png"),)


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
    assert load_sources(task, one_size((60, 90)))[0].size == (60, 90)


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


def circle(size: tuple[int, int]) -> Image.Image:
    """A white circle in the middle of a black image of this size, drawn smoothly; 80 % of the shorter side."""
    large = Image.new("L", (4 * size[0], 4 * size[1]))
    ImageDraw.Draw(large).circle((2 * size[0] - 0.5, 2 * size[1] - 0.5), 1.6 * min(size), 255)
    return large.reduce(4).convert("RGB")


def extent(image: Image.Image) -> tuple[float, float]:
    """Width and height of the circle, in pixels: the brightness along the middle row and column."""
    values = np.asarray(image.convert("L")) / 255
    return float(values[image.height // 2].sum()), float(values[:, image.width // 2].sum())


@settings(max_examples=40, deadline=None)
@given(st.tuples(SIDES, SIDES), TARGETS)
def test_circles_stay_circles_unless_images_are_stretched(size, target):
    image = circle(size)
    for choose_size in (one_size(target), buckets(target[0] * target[1], 16, 2.0)):
        result = resized(image, choose_size)
        assert result.size == choose_size(size)
        width, height = extent(result)
        if max(width, height) < min(result.size) - 2:  # otherwise the border cuts the circle
            assert abs(width - height) <= 1
    width, height = extent(resized(image, one_size(target, crops=False)))
    squeeze = (target[0] / target[1]) / (size[0] / size[1])
    assert width / height == pytest.approx(squeeze, rel=0.02)


def test_a_wide_image_is_cut_to_its_centre_or_squeezed():
    image = circle((1024, 576))
    assert extent(resized(image, one_size((512, 512), crops=False))) == pytest.approx((230.4, 409.6), abs=1)
    ours = resized(image, one_size((512, 512)))
    assert extent(ours) == pytest.approx((409.6, 409.6), abs=1)
    # The published trainer cuts out the largest square in the middle and resizes it; only the borders may differ.
    published = image.crop((224, 0, 800, 576)).resize((512, 512), Image.Resampling.LANCZOS)
    inside = (8, 8, 504, 504)
    assert ours.crop(inside).tobytes() == published.crop(inside).tobytes()


@pytest.mark.parametrize("side", [32, 512, 700])
def test_a_square_image_is_the_same_cut_or_squeezed(side):
    image = circle((side, side))
    cut, squeezed = (resized(image, one_size((512, 512), crops=crops)) for crops in (True, False))
    assert cut.tobytes() == squeezed.tobytes()
    assert one_size((512, 512)).cut_fraction((side, side)) == 0


def test_how_much_of_an_image_is_cut_off():
    assert one_size((512, 512)).cut_fraction((1024, 576)) == pytest.approx(1 - 576 / 1024)
    assert one_size((512, 512)).cut_fraction((576, 1024)) == pytest.approx(1 - 576 / 1024)
    assert one_size((512, 512), crops=False).cut_fraction((1024, 576)) == 0
    assert buckets(512 * 512, 16, 2.0).cut_fraction((1024, 576)) < 0.03


def test_every_source_of_a_task_is_cut(folder):
    for name, size in (("a", (200, 100)), ("b", (100, 300))):
        circle(size).save(folder / "images" / f"{name}.png")
    (task,) = read_task_list(write(folder, {"prompt": "x", "images": ["images/a.png", "images/b.png"]}))
    for image in load_sources(task, one_size((64, 64))):
        assert extent(image) == pytest.approx((51.2, 51.2), abs=1)


def test_a_list_is_checked_once_until_it_or_its_files_change(folder, monkeypatch):
    path = write(folder, {"prompt": "x", "image": "images/a.png"}, {"prompt": "y", "image": "images/b.png"})
    before = list(read_task_list(path))
    with monkeypatch.context() as patched:
        patched.setattr(index_builder, "build_table", None)
        assert list(read_task_list(path)) == before
        assert list(read_task_list(path)[1:]) == before[1:]
    (folder / "images/b.png").unlink()
    for _ in range(2):
        with pytest.raises(DataError, match=r"line 2: image file .*images/b\.png does not exist"):
            read_task_list(path)
    Image.new("RGB", (40, 20), "red").save(folder / "images/b.png")
    assert list(read_task_list(path)) == before


def test_of_a_long_list_only_some_files_are_looked_for_again(folder):
    lines = [{"prompt": str(index), "image": f"images/{'ab'[index == 1]}.png"} for index in range(1500)]
    path = write(folder, *lines)
    before = list(read_task_list(path))
    (folder / "images/b.png").unlink()
    assert list(read_task_list(path)) == before
    (folder / "images").rename(folder / "moved")
    with pytest.raises(DataError, match=r"and 1490 more"):
        read_task_list(path)
