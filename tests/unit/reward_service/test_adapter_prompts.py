"""An adapter is asked the questions that it brings; whoever asks it others is warned."""

from pathlib import Path

import pytest
from PIL import Image

from edit_r1.reward_service.methods import adapter_warnings, load_methods
from edit_r1.reward_service.methods.templates import base_prompts
from edit_r1.reward_service.service import Service
from edit_r1.reward_service.settings import Settings
from edit_r1.reward_service.types import Brief, Edit, JudgeImage
from edit_r1.shared.errors import ConfigError

PICTURE = JudgeImage(Image.new("RGB", (4, 4)), "picture")
EDIT = Edit(Brief("make it red", "None", "adjust", (PICTURE,)), PICTURE)


def texts(directory: Path, **files: str) -> Path:
    """A directory of base prompts."""
    directory.mkdir(parents=True)
    for name, text in files.items():
        (directory / f"{name.replace('__', '.')}.txt").write_text(text + "\n")
    return directory


def asked(methods, name="editscore"):
    return [str(question.messages[-1].content[-1]) for question in methods[name].ask(EDIT)]


def test_the_users_text_goes_before_the_adapters_and_this_before_the_judges(tmp_path):
    names = ("editscore_following", "editscore_quality", "unified_reward", "score")
    judge = texts(tmp_path / "judge", **dict.fromkeys(names, "judge"))
    adapter = tmp_path / "adapter"
    texts(adapter / "prompts", editscore_following="adapter: {instruction}", editscore_quality="adapter")
    user = texts(tmp_path / "user", editscore_quality="user")
    methods = load_methods(user, {"editscore": adapter}, judge)
    assert asked(methods) == ["adapter: make it red", "user"]
    assert asked(methods, "unified_reward") == asked(methods, "score_logit") == ["judge"]
    assert asked(load_methods(user, judge_prompts=judge)) == ["judge", "user"]


def test_a_replaced_prompt_takes_its_answer_prefix_with_it(tmp_path):
    judge = texts(tmp_path / "judge", score="judge", score__answer="judge begins", yes_no="judge", yes_no__answer="so")
    user = texts(tmp_path / "user", score="user", yes_no__answer="user begins")
    found = base_prompts(user, judge)
    assert (found("score"), found.answer_prefix("score")) == ("user", "")
    assert (found("yes_no"), found.answer_prefix("yes_no")) == ("judge", "user begins")


def test_an_adapter_that_is_asked_other_questions_than_its_own_is_named(tmp_path):
    (missing,) = adapter_warnings({"editscore": tmp_path, "verifier": tmp_path}, None, None)
    assert "adapter of editscore" in missing
    assert "editscore_following.txt, editscore_quality.txt" in missing
    own = tmp_path / "own"
    texts(own / "prompts", editscore_following="x", editscore_quality="y")
    assert adapter_warnings({"editscore": own}, None, None) == ()
    assert adapter_warnings({"editscore": tmp_path}, own / "prompts", None) == ()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("score", "x", r"score\.txt is not asked by editscore, which asks editscore_following, editscore_quality"),
        ("editscore_quality", "{instructions}", r"unknown placeholder \{instructions\}"),
        ("following", "x", r"following\.txt is not one of"),
    ],
)
def test_a_text_that_would_not_be_asked_is_an_error(tmp_path, name, text, message):
    texts(tmp_path / "prompts", **{name: text})
    with pytest.raises(ConfigError, match=message):
        load_methods(adapters={"editscore": tmp_path})


def test_the_service_tells_its_clients(tmp_path):
    settings = Settings(model=str(tmp_path), adapters={"editscore": tmp_path}, calibration="none")
    (warning,) = Service(settings).info.warnings
    assert "adapter of editscore" in warning


def test_the_embedded_judges_adapters_are_asked_what_they_learned(shapes_dir):
    settings = Settings(model=str(shapes_dir / "judge"))
    assert {"editscore", "unified_reward"} < settings.adapter_directories.keys()
    assert adapter_warnings(settings.adapter_directories, None, settings.judge_prompts) == ()
