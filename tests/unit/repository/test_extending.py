"""The methods in docs/extending.md work exactly as printed: a chat method, and a measure in a service of its own."""

import math
import re
import sys
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from PIL import Image, ImageFilter

from edit_r1.reward_service import methods
from edit_r1.reward_service.methods.templates import base_prompts, load_template, placeholders
from edit_r1.reward_service.types import Answer, Brief, Edit, JudgeImage
from tests.support.serving import encoded, picture, reward_service

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs/extending.md").read_text()


@pytest.fixture
def documented(monkeypatch):
    """The page's file as a module that can be imported."""
    found = re.search(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert found
    module = ModuleType("my_rewards")
    monkeypatch.setitem(sys.modules, "my_rewards", module)
    exec(found[1], module.__dict__)  # noqa: S102 - the page's own code
    return module


def image(name: str) -> JudgeImage:
    return JudgeImage(Image.new("RGB", (4, 4)), name)


def test_the_documented_chat_method_asks_and_reads(documented):
    assert placeholders(documented.PROMPT) == placeholders(load_template("yes_no"))
    method = documented.keep_logit(base_prompts(None))
    edit = Edit(Brief("make it red", "None", "default", (image("before"),)), image("after"))
    (question,) = method.ask(edit)
    *pictures, text = question.messages[-1].content
    assert [picture.digest for picture in pictures] == ["before", "after"]
    assert "Instruction: make it red" in text
    assert question.spec.labels == method.labels
    answer = Answer("", (1,), ("",), ((math.log(0.6), math.log(0.2)),))
    score = method.read(edit, [answer])
    assert score.raw_score == pytest.approx(0.75)
    assert method.raw_score_min <= score.raw_score <= method.raw_score_max


def test_the_documented_measure_scores_over_http(documented, tmp_path):
    sharp = picture(0)
    blurred = sharp.filter(ImageFilter.GaussianBlur(2))
    files = [("source", encoded(sharp)), *(("candidates", encoded(one)) for one in (sharp, blurred))]
    with reward_service(tmp_path, engine="none", methods={"sharpness": "my_rewards:Sharpness"}) as url:
        answer = httpx.post(f"{url}/v1/score", data={"instruction": "x", "method": "sharpness"}, files=files)
    same, less = answer.json()["results"]
    assert same["score"] == 1 > less["score"] > 0


def test_the_places_that_the_page_names_exist():
    assert methods._CONSTRUCTORS
    for path in re.findall(r"(?:reward_service|tests|worlds|trainer)/[\w/]+(?:\.\w+)?", TEXT):
        assert (ROOT / path).exists(), path
