"""`data check` and `data convert` on lists of every format."""

import json
from pathlib import Path

import datasets
import pytest
from PIL import Image

from edit_r1.shared.errors import ConfigError, DataError
from edit_r1.trainer.tasks.task_list import read_task_list
from tests.support.data_commands import data, read, row, save, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A list of two tasks, with a byte order mark as Windows writes it."""
    for index in range(3):
        save(tmp_path / f"in/images/{index}.png", index)
    lines = (
        {"prompt": "make it red", "image": "images/0.png", "task": "adjust", "metadata": {"n": [1]}},
        {"prompt": "put on the hat", "images": ["images/1.png", "images/2.png"], "requirement": "only that"},
    )
    path = write(tmp_path / "in/list.jsonl", *lines)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    return path


def contents(name: object) -> list[tuple[object, ...]]:
    """All that a list says, with the pictures' bytes."""
    return [
        (task.instruction, task.requirement, task.task, task.metadata, [one.read() for one in task.sources])
        for task in read_task_list(Path(str(name)))
    ]


def test_a_list_survives_parquet_and_comes_back(source, tmp_path):
    expected = contents(source)
    assert "2 tasks" in data("convert", source, "--out", tmp_path / "a/list.parquet")
    assert contents(tmp_path / "a/list.parquet") == expected
    data("convert", tmp_path / "a/list.parquet", "--out", tmp_path / "b/list.jsonl")
    assert contents(tmp_path / "b/list.jsonl") == expected
    assert len(list((tmp_path / "b/list_images").iterdir())) == 3
    data("check", tmp_path / "b/list.jsonl", "--out", tmp_path / "c.parquet", "--sheet", tmp_path / "sheet.png")
    assert contents(tmp_path / "c.parquet") == expected
    assert datasets.load_dataset("parquet", data_files=str(tmp_path / "c.parquet"))["train"][0]["images"][0].size
    with pytest.raises(DataError, match="exists; choose another --out, or pass --restart"):
        data("convert", source, "--out", tmp_path / "c.parquet")


def test_a_published_data_set_is_checked_by_its_columns(tmp_path):
    pictures = [save(tmp_path / f"{index}.png", index).read_bytes() for index in range(3)]
    pictures[1] = pictures[1][: len(pictures[1]) // 2]
    features = datasets.Features(
        {"instruction": datasets.Value("string"), "source_img": datasets.Image(), "edited_img": datasets.Image()}
    )
    rows = [
        {"instruction": "do it", "source_img": {"bytes": one, "path": None}, "edited_img": None}
        for one in (*pictures, pictures[0])
    ]
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "set.parquet")
    columns = ("--column", "prompt=instruction", "--column", "image=source_img")
    told = data("check", tmp_path / "set.parquet", *columns, "--out", tmp_path / "out/good.jsonl")
    assert "set.parquet row 1: image unreadable: not a readable image" in told
    assert "set.parquet row 3: same image and prompt as row 0" in told
    assert (row(told, "read"), row(told, "sound")) == (4, 2)
    for line in read(tmp_path / "out/good.jsonl"):
        with Image.open(tmp_path / "out" / line["images"][0]) as image:
            assert image.size == (60, 40)
    with pytest.raises(ConfigError, match=r"--column\.prompt = 'instructoin': .*did you mean 'instruction'"):
        data("check", tmp_path / "set.parquet", "--column", "prompt=instructoin")
    with pytest.raises(ConfigError, match="--column 'promt=x' must be KEY=COLUMN with KEY one of prompt, image"):
        data("check", tmp_path / "set.parquet", "--column", "promt=x")


def test_an_invalid_list_is_not_converted(source, tmp_path):
    source.write_text(source.read_text(encoding="utf-8-sig") + json.dumps({"prompt": "x", "imgae": "y"}))
    with pytest.raises(DataError, match=r"line 3: .*unknown key 'imgae'"):
        data("convert", source, "--out", tmp_path / "out.parquet")
    (source.parent / "images/1.png").unlink()
    source.write_text("".join(source.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(DataError, match=r"image .*images/1\.png: "):
        data("convert", source, "--out", tmp_path / "out.parquet")
    assert not list(tmp_path.glob("*out.parquet*"))
