"""A run on a data set with embedded pictures is the run on the list of files that it was made from."""

import json

import datasets
import pytest
import torch

from edit_r1.shared.errors import ConfigError
from tests.support.color_judge import ColorJudge, serving
from tests.support.forked import Forked
from tests.support.tiny_run import metrics, weights


def embed(folder, name):
    """The list as a parquet file with other columns, among them pictures that training does not look at."""
    lines = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    image = {"edited_img": datasets.Image(), "source_img": datasets.Image()}
    rows = {
        "instruction": [line["prompt"] for line in lines],
        "edited_img": [None for _ in lines],
        "source_img": [{"bytes": (folder / line["image"]).read_bytes(), "path": None} for line in lines],
        "kind": [line["task"] for line in lines],
    }
    text = datasets.Value("string")
    data_set = datasets.Dataset.from_dict(rows, datasets.Features({"instruction": text, **image, "kind": text}))
    data_set.to_parquet(folder / f"{name}.parquet")
    return folder / f"{name}.parquet"


@pytest.fixture
def columns(tiny):
    lists = (f"data.{key}={embed(tiny.folder, key)}" for key in ("train", "held_out"))
    return (*lists, "data.columns={prompt: instruction, image: source_img, task: kind}")


def test_embedded_pictures_train_the_same_numbers(tiny, columns, tmp_path):
    with serving(ColorJudge()) as url:
        tiny.train(url, tmp_path / "files", "epochs=1")
        tiny.train(url, tmp_path / "embedded", "epochs=1", *columns)
        status, output = Forked(
            "train", *tiny.arguments(url, tmp_path / "two", "epochs=1", *columns), num_processes=2
        ).finish()
    assert status == 0, output
    assert metrics(tmp_path / "files") == metrics(tmp_path / "embedded")
    for name in ("policy", "ema"):
        file = f"{name}/pytorch_lora_weights.safetensors"
        left, right = weights(tmp_path / "files", 1, file), weights(tmp_path / "embedded", 1, file)
        assert all(torch.equal(left[key], right[key]) for key in left)


def test_a_wrong_column_ends_the_run_before_anything_is_loaded(tiny, columns, tmp_path):
    with pytest.raises(ConfigError, match=r"data\.columns\.image = 'source': .* did you mean 'source_img'"):
        tiny.train("http://127.0.0.1:9", tmp_path / "run", *columns, "data.columns.image=source", "model.path=gone")
