"""Task lists that the `datasets` library reads give the tasks that JSON lines give."""

import io
import json
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from edit_r1.shared.errors import ConfigError, DataError
from edit_r1.trainer.mathematics.sizes import one_size
from edit_r1.trainer.tasks.columns import Columns
from edit_r1.trainer.tasks.task_list import describe_tasks, load_sources, read_task_list

LINES = [
    {"prompt": "make it red", "image": "0.png", "task": "adjust", "metadata": {"n": 1, "scene": {"hat": True}}},
    {"prompt": "remove it", "image": "1.png", "requirement": "only the hat", "metadata": {"n": 2}},
    {"prompt": "make it red", "image": "2.png", "task": "adjust", "metadata": {"n": 3}},
]
FEATURES = datasets.Features(
    {
        "instruction": datasets.Value("string"),
        "source_img": datasets.Image(),
        "edited_img": datasets.Image(),
        "rule": datasets.Value("string"),
        "kind": datasets.Value("string"),
        "metadata": datasets.Value("string"),
    }
)
COLUMNS = Columns(prompt="instruction", image="source_img", requirement="rule", task="kind")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for index in range(len(LINES)):
        pixels = np.random.default_rng(index).integers(0, 256, (20, 30 + index, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    (tmp_path / "tasks.jsonl").write_text("\n".join(map(json.dumps, LINES)))
    return tmp_path


def embedded(folder):
    """The tasks with pictures inside, under other names, with columns that no task needs."""
    rows = [
        {
            "instruction": line["prompt"],
            "source_img": {"bytes": (folder / str(line["image"])).read_bytes(), "path": None},
            "edited_img": {"bytes": b"not looked at", "path": None},
            "rule": line.get("requirement", ""),
            "kind": line.get("task"),
            "metadata": json.dumps(line["metadata"]),
        }
        for line in LINES
    ]
    return datasets.Dataset.from_list(rows, features=FEATURES)


def parquet(folder):
    embedded(folder).to_parquet(folder / "set.parquet")
    return folder / "set.parquet", COLUMNS


def parquet_shards(folder):
    for index in range(2):
        embedded(folder).shard(2, index).to_parquet(folder / f"part-{index}.parquet")
    return folder / "part-{0..1}.parquet", COLUMNS


def saved(folder):
    datasets.DatasetDict({"train": embedded(folder), "test": embedded(folder).select([0])}).save_to_disk(folder / "set")
    return f"{folder / 'set'}:train", COLUMNS


def shuffled_and_saved(folder):
    shuffled = embedded(folder).select([2, 0, 1])
    shuffled.select([1, 2, 0]).save_to_disk(folder / "set")
    return folder / "set", COLUMNS


def repository(folder):
    (folder / "set/data").mkdir(parents=True)
    embedded(folder).to_parquet(folder / "set/data/train-00000-of-00001.parquet")
    embedded(folder).select([0]).to_parquet(folder / "set/data/test-00000-of-00001.parquet")
    return f"{folder / 'set'}:train[:100%]", COLUMNS


def paths_in_parquet(folder):
    empty = {"requirement": None, "task": None}
    rows = [{**empty, **line, "metadata": json.dumps(line["metadata"])} for line in LINES]
    datasets.Dataset.from_list(rows).to_parquet(folder / "set.parquet")
    return folder / "set.parquet", None


def web_data_set(folder):
    with tarfile.open(folder / "set-000.tar", "w") as tar:
        for index, line in enumerate(LINES):
            text = json.dumps({"requirement": None, "task": None} | line).encode()
            for name, data in (("json", text), ("png", (folder / f"{index}.png").read_bytes())):
                member = tarfile.TarInfo(f"{index:04}.{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return folder / "set-*.tar", None


def hub(folder):
    """A data set as the library keeps it after a download; the tests are offline."""
    repository(folder)
    (folder / "set").rename(folder / "edits")
    datasets.load_dataset(str(folder / "edits"))
    (folder / "cache/edits").rename(folder / "cache/somebody___edits")
    return "hub:somebody/edits:train[:3]", COLUMNS


def other_json_lines(folder):
    rows = [
        {"instruction": one["prompt"], "input_images": [one["image"]], "rule": one.get("requirement"), "more": {"a": 1}}
        | {"kind": one.get("task"), "metadata": one["metadata"]}
        for one in LINES
    ]
    (folder / "other.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "other.jsonl", COLUMNS.model_copy(update={"image": ("input_images",)})


SOURCES = (
    parquet,
    parquet_shards,
    saved,
    shuffled_and_saved,
    repository,
    paths_in_parquet,
    web_data_set,
    hub,
    other_json_lines,
)


@pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__)
def test_every_source_gives_the_same_tasks(folder, make):
    expected = read_task_list(folder / "tasks.jsonl")
    name, columns = make(folder)
    found = read_task_list(name, columns=columns)
    keeps_metadata = columns is None
    for left, right in zip(expected, found, strict=True):
        assert (left.instruction, left.requirement, left.task) == (right.instruction, right.requirement, right.task)
        assert right.metadata == (left.metadata if keeps_metadata else {})
        assert [one.read() for one in left.sources] == [one.read() for one in right.sources]
        (ours,), (theirs,) = load_sources(left, one_size((16, 16))), load_sources(right, one_size((16, 16)))
        assert ours.tobytes() == theirs.tobytes()
    assert describe_tasks(found) == describe_tasks(expected)
    assert len({task.id for task in found}) == len(found)


def test_ids_of_embedded_pictures_follow_their_content(folder):
    name, columns = parquet(folder)
    there = {task.instruction + str(task.sources[0].size()): task.id for task in read_task_list(name, columns=columns)}
    embedded(folder).select([2, 1]).to_parquet(folder / "other.parquet")
    for task in read_task_list(folder / "other.parquet", columns=columns):
        assert there[task.instruction + str(task.sources[0].size())] == task.id


def test_several_sources_come_from_lists_and_from_columns(folder):
    pictures = [{"bytes": (folder / f"{index}.png").read_bytes(), "path": None} for index in range(3)]
    features = datasets.Features(
        {
            "prompt": datasets.Value("string"),
            "images": datasets.List(datasets.Image()),
            "reference": datasets.Image(),
        }
    )
    rows = [
        {"prompt": "a", "images": pictures[:2], "reference": pictures[2]},
        {"prompt": "b", "images": pictures[:1], "reference": None},
    ]
    datasets.Dataset.from_list(rows, features=features).to_parquet(folder / "set.parquet")
    columns = Columns(image=("images", "reference"), metadata=("prompt",))
    first, second = read_task_list(folder / "set.parquet", columns=columns)
    assert [one.size()[0] for one in first.sources] == [30, 31, 32]
    assert [one.size()[0] for one in second.sources] == [30]
    assert second.metadata == {"prompt": "b"}
    assert len(read_task_list(folder / "set.parquet")[0].sources) == 2  # without columns: our own name `images`


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"prompt": "instructions", "image": "source_img"},
            r"data\.columns\.prompt = 'instructions': .*set\.parquet has no such column; it has edited_img, .*; "
            r"did you mean 'instruction'",
        ),
        ({"prompt": "instruction", "image": ["source_img", "x"]}, r"data\.columns\.image = 'x': .* no such column"),
        ({"prompt": "instruction", "image": "rule"}, r"row 0: no source image in rule\n"),
        ({"prompt": "source_img", "image": "source_img"}, r"row 0: prompt \(column source_img\): .*valid string"),
        (None, r"data\.columns\.prompt = 'prompt': .* no such column; it has edited_img"),
    ],
)
def test_wrong_columns_are_named_with_those_there_are(folder, columns, message):
    name, _ = parquet(folder)
    with pytest.raises((ConfigError, DataError), match=message):
        read_task_list(name, columns=None if columns is None else Columns.model_validate(columns))


def test_a_column_that_no_line_has_is_an_error_too(folder):
    name, columns = other_json_lines(folder)
    with pytest.raises(ConfigError, match=r"data\.columns\.task = 'knd': .*kind.*did you mean 'kind'"):
        read_task_list(name, columns=columns.model_copy(update={"task": "knd"}))


def test_a_corrupt_picture_is_named_by_its_row(folder):
    rows = embedded(folder).to_list()
    rows[1]["source_img"]["bytes"] = rows[1]["source_img"]["bytes"][:-30]
    datasets.Dataset.from_list(rows, features=FEATURES).to_parquet(folder / "set.parquet")
    task = read_task_list(folder / "set.parquet", columns=COLUMNS)[1]
    with pytest.raises(DataError, match=r"image .*set\.parquet row 1, source 1: not a readable image"):
        load_sources(task, one_size((16, 16)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{}/gone.parquet", "no such file"),
        ("{}/set", "choose a split, such as .*set:train; there are train, test"),
        ("{}/set:dev", "no split 'dev', .* there are train, test"),
        ("hub:nobody", r"must be hub:OWNER/NAME"),
        ("hub:nobody/nothing:train", "cannot read task list hub:nobody/nothing:train: .*nobody/nothing"),
    ],
)
def test_a_data_set_that_cannot_be_opened_is_named(folder, name, message):
    saved(folder)
    with pytest.raises(DataError, match=message):
        read_task_list(name.format(folder), columns=COLUMNS)
