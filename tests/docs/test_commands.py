"""Every command of README.md, CONTRIBUTING.md and docs/ is executed, or says in a comment before it why it is not."""

import json
import tomllib

import pytest
import yaml
from PIL import Image

from shared.preferences import PreferenceLine
from tests.support.pages import ROOT, blocks_of, fault, pages
from tests.support.typist import copy_of_the_repository, typist
from trainer.data import read_task_list

PAGES = pages()
RUN = [page for page in PAGES if any(block.runs for block in blocks_of(page))]


def name(page):
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="session")
def type_blocks(judge_url):
    with typist(judge_url) as type_blocks:
        yield type_blocks


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_is_not_run_says_why(page):
    assert [complaint for block in blocks_of(page) if (complaint := fault(block))] == []


@pytest.mark.parametrize("page", RUN, ids=name)
def test_a_pages_commands_work(page, type_blocks, tmp_path):
    blocks = [block for block in blocks_of(page) if block.runs]
    status, output = type_blocks(blocks, copy_of_the_repository(tmp_path / "edit-r1"))
    assert status == 0, output


@pytest.mark.parametrize("page", RUN, ids=name)
def test_a_pages_data_can_be_read(page, tmp_path):
    for block in blocks_of(page):
        if block.runs and block.kind == "json":
            for value in values_of(block):
                check(value, tmp_path / f"{block.line}.jsonl")
        elif block.runs and block.kind == "yaml":
            assert yaml.safe_load(block.text) is not None, str(block)
        elif block.runs and block.kind == "toml":
            tomllib.loads(block.text)
        assert block.kind in ("json", "yaml", "toml", "bash", "python", "other"), f"{block}: kind {block.kind}"


def values_of(block):
    """JSON values one after the other, each on any number of lines."""
    values, rest = [], block.text.strip()
    while rest:
        try:
            value, end = json.JSONDecoder().raw_decode(rest)
        except json.JSONDecodeError as error:
            pytest.fail(f"{block}: no JSON, and no reason in a comment before it: {error}")
        values.append(value)
        rest = rest[end:].lstrip()
    return values


def check(value, path):
    """Lines of formats that we read are read as ours."""
    if isinstance(value, dict) and "prompt" in value and {"image", "images"} & set(value):
        given = value.get("images", value.get("image"))
        for picture in [given] if isinstance(given, str) else given:
            (path.parent / picture).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32)).save(path.parent / picture)
        path.write_text(json.dumps(value))
        assert len(read_task_list(path)) == 1
    elif isinstance(value, dict) and "edits" in value:
        PreferenceLine.model_validate(value)
