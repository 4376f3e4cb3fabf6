"""The prompts match the paper's (Appendix C) verbatim, and are filled in safely."""

import pytest
from PIL import Image

from edit_r1.reward_service.methods import METHODS, load_methods
from edit_r1.reward_service.methods.templates import TASKS_DIRECTORY, load_task_prompts, load_template
from edit_r1.reward_service.types import Brief, Edit, JudgeImage, Principle
from edit_r1.shared.errors import ConfigError
from edit_r1.shared.schemas import task_key

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
    brief = Brief(instruction, "keep {instruction}", "default", (image("first"), image("second")))
    return Edit(brief, image("edited"), (Principle("Is it red?", "follow"), Principle("Is the rest kept?", "keep")))


def test_the_score_template_is_the_papers():
    assert load_template("score") == PAPER_SCORE


def test_the_cot_template_differs_from_the_score_template_as_in_the_paper():
    words = "Before that, analyze the image and provide some reasoning process for better evaluation"
    assert words in load_template("score_cot")
    assert load_template("score_cot").endswith('"Reasoning": "...",\n"Score": [[rating]](0-5).')


def test_the_yes_no_template_ends_as_in_the_paper():
    assert load_template("yes_no").endswith('Response Format:\n"Judgement": [[Yes/No]]')


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_question_shows_images_first_and_says_what_was_asked(method):
    for question in method.ask(edit("paint {requirement} [{x}]")):
        system, user = question.messages
        assert (system.role, system.content) == ("system", ("You are a helpful assistant.",))
        shown = [part.digest for part in user.content if isinstance(part, JudgeImage)]
        text = str(user.content[-1])
        # Questions about appearance show only the edit; all others show the originals, then the edit.
        assert shown == (
            ["first", "second", "edited"] if "two images" in str(text) or "original" in text else ["edited"]
        )
        assert "paint {requirement} [{x}]" in text or shown == ["edited"]


@pytest.mark.parametrize("name", ["score_logit", "yes_no_logit", "score_logit_cot", "verifier"])
def test_instruction_and_requirement_stand_in_their_lines(name):
    text = str(METHODS[name].ask(edit("paint {requirement} [{x}]"))[0].messages[1].content[-1])
    assert "\nInstruction: paint {requirement} [{x}]\nRequirements: keep {instruction}\n" in text


def test_there_is_a_prompt_for_every_task_of_the_paper():
    paper = ["Replace", "Adjust", "Remove", "Background", "Hybrid", "Action", "Text Edit", "Redbox Control"]
    prompts = load_task_prompts(TASKS_DIRECTORY)
    assert {task_key(name) for name in [*paper, "Reference", "Extract"]} <= set(prompts)
    assert prompts["default"] == "None"


def test_a_task_may_be_spelled_in_several_ways():
    assert {task_key(name) for name in ("Text Edit", "text-edit", " text_edit", "TEXT  EDIT")} == {"text_edit"}


def test_a_directory_of_task_prompts_needs_a_default(tmp_path):
    (tmp_path / "remove.txt").write_text("gone\n")
    with pytest.raises(ConfigError, match=r"no default\.txt \(found: remove\)"):
        load_task_prompts(tmp_path)


def test_a_users_base_prompt_replaces_the_built_in_one(tmp_path):
    (tmp_path / "score.txt").write_text("Rate {instruction} from 0 to 5.\n")
    asked = {name: method.ask(edit())[0].messages[1].content[-1] for name, method in load_methods(tmp_path).items()}
    assert asked["score_logit"] == asked["score_sampling"] == "Rate make it red from 0 to 5."
    assert asked["yes_no_logit"] == METHODS["yes_no_logit"].ask(edit())[0].messages[1].content[-1]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("scores.txt", "x", r"scores\.txt is not one of .*score"),
        ("score.txt", "{instruction} {task}", r"score\.txt has an unknown placeholder \{task\}"),
    ],
)
def test_a_wrong_base_prompt_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_methods(tmp_path)
