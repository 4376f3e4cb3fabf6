"""The prompts are the paper's (Appendix C), to the letter, and are filled in without surprises."""

import pytest
from PIL import Image

from reward_service.methods import METHODS
from reward_service.methods.templates import TASKS_DIRECTORY, load_task_prompts, load_template, task_key
from reward_service.types import Edit, JudgeImage
from shared.errors import ConfigError

PAPER_SCORE = """\
Here are two images: the original and the edited version. Please evaluate the edited image based on the following \
editing instructions and requirements.
Instruction: {instruction}
Requirements: {requirement}
You need to rate the editing result from 0 to 5 based on the accuracy and quality of the edit.
0: The wrong object was edited, or the edit completely fails to meet the requirements.
5: The correct object was edited, the requirements were met, and the visual result is high quality.
Response Format:
"Score": [[rating]](0-5)."""


def image(name: str) -> JudgeImage:
    return JudgeImage(Image.new("RGB", (4, 4)), name)


def edit(instruction: str = "make it red") -> Edit:
    return Edit(instruction, "keep {instruction}", (image("first"), image("second")), image("edited"))


def test_the_score_template_is_the_papers():
    assert load_template("score") == PAPER_SCORE


def test_the_cot_template_differs_from_the_score_template_as_in_the_paper():
    words = "Before that, analyze the image and provide some reasoning process for better evaluation"
    assert words in load_template("score_cot")
    assert load_template("score_cot").endswith('"Reasoning": "...",\n"Score": [[rating]](0-5).')


def test_the_yes_no_template_ends_as_in_the_paper():
    assert load_template("yes_no").endswith('Response Format:\n"Judgement": [[Yes/No]]')


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_the_judge_sees_the_originals_then_the_edit_then_the_text(method):
    system, user = method.build_messages(edit("paint {requirement} [{x}]"))
    assert (system.role, system.content) == ("system", ("You are a helpful assistant.",))
    *images, text = user.content
    assert [found.digest for found in images] == ["first", "second", "edited"]
    assert "\nInstruction: paint {requirement} [{x}]\nRequirements: keep {instruction}\n" in text


def test_there_is_a_prompt_for_every_task_of_the_paper():
    paper = ["Replace", "Adjust", "Remove", "Background", "Hybrid", "Action", "Text Edit", "Redbox Control"]
    prompts = load_task_prompts(TASKS_DIRECTORY)
    assert {task_key(name) for name in [*paper, "Reference", "Extract"]} <= set(prompts)
    assert prompts["default"] == "None"


def test_a_directory_of_task_prompts_needs_a_default(tmp_path):
    (tmp_path / "remove.txt").write_text("gone\n")
    with pytest.raises(ConfigError, match=r"no default\.txt \(found: remove\)"):
        load_task_prompts(tmp_path)
