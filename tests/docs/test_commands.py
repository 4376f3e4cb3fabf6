"""Every command in README.md, CONTRIBUTING.md and docs/ is executed, or has a comment that says why it is not."""

import json
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from edit_r1.command import app
from edit_r1.shared.preferences import PreferenceLine
from edit_r1.trainer.config import DataConfig, ModelConfig, TrainConfig
from edit_r1.trainer.run.resuming import flatten
from edit_r1.trainer.tasks.task_list import read_task_list
from tests.support.pages import ROOT, Block, blocks_of, fault, make_targets, pages
from tests.support.typist import copy_of_the_repository, typist

PAGES = pages()
RUN = [page for page in PAGES if any(block.runs for block in blocks_of(page))]


KEYS = set(flatten(TrainConfig(run_dir=Path(), data=DataConfig(train=Path()), model=ModelConfig(path="")).model_dump()))


def name(page):
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="session")
def type_blocks(judge_url):
    with typist(judge_url) as type_blocks:
        yield type_blocks


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_is_not_run_says_why(page):
    assert [complaint for block in blocks_of(page) if (complaint := fault(block))] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_is_not_run_names_targets_commands_options_and_keys_that_exist(page):
    unknown = []
    for block in blocks_of(page):
        if block.kind == "bash" and block.note and block.note[0] == "not run":
            unknown += [f"{block}: {word}" for line in lines_of(block.text) for word in unknown_words(line)]
    assert unknown == []


def test_a_typing_mistake_would_be_found():
    line = "edit-r1 train x.yaml model.wdith=3 && make tets && edit-r1 data box a --min-area 0.1"
    assert list(unknown_words(line)) == ["model.wdith", "make tets", "edit-r1 data box"]
    assert list(unknown_words("edit-r1 serve --modle x --port 3")) == ["--modle"]


@pytest.mark.parametrize("page", RUN, ids=name)
def test_a_pages_commands_work(page, type_blocks, tmp_path):
    blocks = [block for block in blocks_of(page) if block.runs]
    status, output = type_blocks(blocks, copy_of_the_repository(tmp_path / "edit-r1"))
    assert status == 0, output


def test_a_command_that_fails_is_told_with_page_and_line(type_blocks, tmp_path):
    blocks = [
        Block(ROOT / "docs/x.md", line, "bash", text, None) for line, text in ((3, "cd worlds || mkdir y"), (7, "cd z"))
    ]
    status, output = type_blocks(blocks, tmp_path)
    assert status != 0
    assert "docs/x.md:7: exit status 1: cd z" in output
    assert (tmp_path / "y").is_dir()


def test_a_reason_of_ones_own_is_refused():
    said = [("not run", reason) for reason in ("too slow", "runs for minutes (make tea)", "needs a GPU")]
    blocks = [Block(ROOT / "docs/x.md", 3, "bash", "x", note) for note in said]
    assert [fault(block) is None for block in blocks] == [False, False, True]


def test_what_is_said_to_cover_a_command_runs_it():
    def told(text, covering):
        return fault(Block(ROOT / "docs/x.md", 3, "bash", text, ("not run", f"runs for minutes ({covering})")))

    assert told("make setup-dev lint test   # a comment", ".ci/run") is None
    assert told("make package", "make package-check") is None
    assert told("make bench", ".ci/run") == "docs/x.md:3: .ci/run does not run make bench"
    assert told("make docs test", "make test") == "docs/x.md:3: make test does not run make docs"


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
    """Parse consecutive JSON values, each of which may span several lines."""
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
    """Check that lines in one of our formats can be read by our own code."""
    if isinstance(value, dict) and "prompt" in value and {"image", "images"} & set(value):
        given = value.get("images", value.get("image"))
        for picture in [given] if isinstance(given, str) else given or []:
            (path.parent / picture).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32)).save(path.parent / picture)
        path.write_text(json.dumps(value))
        assert len(read_task_list(path)) == 1
    elif isinstance(value, dict) and "edits" in value:
        PreferenceLine.model_validate(value)


def lines_of(text):
    """Commands with continuation lines joined and comments removed."""
    return [re.sub(r"(^|\s)#.*", "", line) for line in text.replace("\\\n", " ").splitlines()]


def unknown_words(line):
    """Make targets, commands, options and configuration keys in a line that do not exist."""
    for command in re.split(r"&&|\||;", line):
        for target in re.findall(r"^\s*make ([a-z-]+)", command):
            if target not in make_targets():
                yield f"make {target}"
        found = re.search(r"(?:^\s*(?:\w+=\S+ )*|bin/)edit-r1 (\S.*)|-m edit_r1 (\S.*)", command)
        if not found:
            continue
        arguments = found[1] or found[2]
        words = arguments.split()
        commands = words[: 2 if words[0] in ("data", "evaluate") else 1]
        text = help_of(*commands)
        if text is None:
            yield " ".join(["edit-r1", *commands])
            continue
        yield from (option for word in words if word.startswith("--") and (option := word.split("=")[0]) not in text)
        keys = re.findall(r"(?<=\s)[a-z_]+(?:\.[a-z_]+)*(?==)", arguments)
        if words[0] in ("train", "doctor", "evaluate"):
            yield from (key for key in keys if key not in KEYS)


@cache
def help_of(*commands):
    """The help text of a command; None if the command does not exist."""
    ended = CliRunner().invoke(app, [*commands, "--help"], env={"COLUMNS": "200"})
    return ended.output if ended.exit_code == 0 else None
