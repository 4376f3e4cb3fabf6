"""`edit-r1 data mix`: caps, order and image paths of the merged list."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edit_r1.reward_service.methods.templates import TASKS_DIRECTORY, load_task_prompts
from edit_r1.shared.errors import ConfigError
from edit_r1.shared.sources import FileSource
from edit_r1.trainer.tasks.task_line import TaskLine
from edit_r1.trainer.tasks.task_list import read_task_list
from edit_r1.workbench.data_prep import mix
from edit_r1.workbench.data_prep.formats import TASK_TYPES
from tests.support.data_commands import data, read, row, save, write


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
    available = Counter(mix.task_name(TaskLine(**line)) for line in distinct.values())
    kept = Counter(mix.task_name(TaskLine(**line)) for line in lines)
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
    with pytest.raises(ConfigError, match="--cap 'extract' must be TASK=N or TASK=all"):
        data("mix", source, "--out", tmp_path / "x.jsonl", "--cap", "extract")


def test_a_mixture_of_lists_in_other_folders_finds_its_pictures(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / name / "images/1.png")
        write(tmp_path / name / "list.jsonl", {"prompt": f"do {name}", "images": ["images/1.png", "images/1.png"]})
    absolute = {"prompt": "here", "image": str(tmp_path / "a/images/1.png")}
    more = write(tmp_path / "more.jsonl", absolute)
    data("mix", tmp_path / "a/list.jsonl", tmp_path / "b/list.jsonl", more, "--out", tmp_path / "m/out.jsonl")
    tasks = {task.instruction: task for task in read_task_list(tmp_path / "m/out.jsonl")}
    assert [os.path.realpath(one.name) for one in tasks["do a"].sources] == 2 * [str(tmp_path / "a/images/1.png")]
    assert tasks["here"].sources == (FileSource(tmp_path / "a/images/1.png"),)


def test_task_names_are_those_of_the_service():
    assert set(TASK_TYPES) == set(load_task_prompts(TASKS_DIRECTORY)) - {"default"}
