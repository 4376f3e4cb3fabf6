"""Dividing an evaluation's images among processes, and the required contents of prompts."""

import threading
import time

import pytest

from edit_r1.shared.errors import ConfigError, DataError
from edit_r1.workbench.evaluation.benchmarks import Item
from edit_r1.workbench.evaluation.generating import picture_path, wait_for
from edit_r1.workbench.evaluation.process_share import Share
from edit_r1.workbench.evaluation.rubrics import CRITERIA, load_prompts, questions


@pytest.mark.parametrize(("rank", "count"), [("2", "2"), ("-1", "2"), ("one", "2"), ("0", "")])
def test_an_impossible_rank_is_refused(monkeypatch, rank, count):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", count)
    with pytest.raises(ConfigError, match="RANK"):
        Share.from_environment()


def test_the_first_process_waits_as_long_as_pictures_come(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(3)]

    def make():
        for path in paths:
            time.sleep(0.7)
            path.touch()

    maker = threading.Thread(target=make)
    maker.start()
    wait_for(paths, lambda _: None, patience_seconds=1.5)  # less than all of them need
    maker.join()
    with pytest.raises(DataError, match=r"no new images from other processes for .*, 1 are missing"):
        wait_for([*paths, tmp_path / "never.png"], lambda _: None, patience_seconds=0.1)


def test_a_picture_is_named_by_all_that_it_depends_on(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    item = Item("0", "add", "a hat", tmp_path / "a")
    others = [
        Item("1", "add", "a hat", tmp_path / "a"),
        Item("0", "add", "a cat", tmp_path / "a"),
        Item("0", "add", "a hat", tmp_path / "b"),
    ]
    names = {picture_path(tmp_path, {"model": "x"}, one, 0) for one in (item, *others)}
    names |= {picture_path(tmp_path, {"model": "y"}, item, 0), picture_path(tmp_path, {"model": "x"}, item, 1)}
    assert len(names) == 6
    assert picture_path(tmp_path, {"model": "x"}, Item("0", "style", "a hat", tmp_path / "a"), 0) in names


def test_every_prompt_asks_for_its_criteria_by_the_names_that_the_parser_reads(tmp_path):
    prompts = load_prompts("imgedit", None)
    assert prompts.texts.keys() == CRITERIA.keys()
    for name, criteria in CRITERIA.items():
        item = Item("0", name, "paint <edit_prompt> here", tmp_path)
        text = questions("imgedit", item, tmp_path, prompts)["rating"].text
        for number, criterion in enumerate(criteria, start=1):
            assert f"\n{number}. {criterion}: " in text
            assert f"\n{criterion}: <number from 1 to 5>\n" in text
        assert text.count("paint <edit_prompt> here") == 1


def test_the_second_question_of_gedit_sees_the_edit_alone_and_not_the_instruction(tmp_path):
    item = Item("x/en/0", "ps_human", "thinner please", tmp_path / "source.png")
    asked = questions("gedit", item, tmp_path / "edit.png", load_prompts("gedit", None))
    assert [shown.path.name for shown in asked["sc"].pictures] == ["source.png", "edit.png"]
    assert [shown.path.name for shown in asked["pq"].pictures] == ["edit.png"]
    assert asked["pq"].pictures[0].like == item.source
    assert "thinner please" in asked["sc"].text
    assert "thinner please" not in asked["pq"].text


def test_prompts_without_a_text_or_its_place_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot read prompts"):
        load_prompts("gedit", tmp_path)
    (tmp_path / "sc.txt").write_text("how good?")
    (tmp_path / "pq.txt").write_text("how nice?")
    with pytest.raises(DataError, match="'sc' lacks the placeholder <instruction>"):
        load_prompts("gedit", tmp_path)
