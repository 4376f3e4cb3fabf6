"""The method in docs/extending.md works exactly as printed: its prompt is filled in, its answers are read."""

import math
import re
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from edit_r1.reward_service import methods
from edit_r1.reward_service.methods.templates import load_template, placeholders
from edit_r1.reward_service.types import Answer, Brief, Edit, JudgeImage

TEXT = (Path(__file__).resolve().parents[3] / "docs/extending.md").read_text()


def block(language: str) -> str:
    """The page's first code block in a language."""
    found = re.search(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def image(name: str) -> JudgeImage:
    return JudgeImage(Image.new("RGB", (4, 4)), name)


def test_the_documented_method_asks_and_reads():
    prompt = block("text").removesuffix("\n")
    assert placeholders(prompt) == placeholders(load_template("yes_no"))
    module = ModuleType("keep_logit")
    exec(block("python"), module.__dict__)  # noqa: S102 - the page's own code
    method = module.method({"keep": prompt}.__getitem__)

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


def test_the_places_that_the_page_names_exist():
    assert methods._CONSTRUCTORS
    root = Path(__file__).resolve().parents[3]
    for path in re.findall(r"(?:reward_service|tests|worlds|trainer)/[\w/]+(?:\.\w+)?", TEXT):
        new = path.endswith(("prompts/keep.txt", "keep_logit.py"))
        assert (root / path).exists() != new, path
