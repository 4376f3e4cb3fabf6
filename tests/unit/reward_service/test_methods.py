"""Methods with several questions: which answers they read and which they reject."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edit_r1.reward_service.methods import METHODS, load_methods
from edit_r1.reward_service.types import Answer, Brief, Edit, JudgeImage, Principle
from edit_r1.shared.errors import UnparsableAnswerError
from edit_r1.shared.schemas import Combination, EditGroup

PRINCIPLES = (Principle("Is it red?", "follow", 2.0), Principle("Is the rest kept?", "keep"))


def image(name: str) -> JudgeImage:
    return JudgeImage(Image.new("RGB", (4, 4)), name)


EDIT = Edit(Brief("make it red", "None", "adjust", (image("source"),)), image("edited"), PRINCIPLES)


def says(*texts: str) -> list[Answer]:
    return [Answer(text, (1,), (text,)) for text in texts]


def leans(*p_yes: float) -> list[Answer]:
    """Answers in which the labels Yes and No have 0.9 of the probability."""
    return [Answer("", (1,), ("",), ((math.log(0.9 * p), math.log(0.9 * (1 - p))),)) for p in p_yes]


@pytest.mark.parametrize(
    "following",
    [
        '{"reasoning": "red now", "score": [20, 16]}',
        'Here it is:\n```json\n{"reasoning": "red now", "score": [20, 16]}\n```',
        '{"reasoning": "red now", "score": [20, 16',
        "{'reasoning': 'red now', 'score': ['20', 16.0]}",
    ],
)
def test_editscore_is_the_geometric_mean_of_the_minima_whatever_the_pen(following):
    score = METHODS["editscore"].read(EDIT, says(following, '{"reasoning": "clean", "score": [25, 9]}'))
    assert score.raw_score == pytest.approx(math.sqrt(16 * 9))
    expected = {"instruction_following": 0.8, "preservation": 0.64, "perceptual_quality": 0.36}
    assert score.parts == pytest.approx(expected)
    assert score.reasoning == "red now\nclean"


@pytest.mark.parametrize(
    "answer", ["", "20 and 16", '{"score": [20]}', '{"score": [20, 26]}', '{"score": "high"}', "{}"]
)
def test_editscore_never_guesses(answer):
    with pytest.raises(UnparsableAnswerError):
        METHODS["editscore"].read(EDIT, says(answer, '{"score": [25, 25]}'))


def test_unified_reward_reads_the_final_score():
    answer = "Final Score: from 1 to 5?\nIt matches. It looks good.\n**Final Score: 4.25**"
    score = METHODS["unified_reward"].read(EDIT, says(answer))
    assert score.raw_score == 4.25
    for wrong in ("4", "Final Score: 7", "Final Score: high"):
        with pytest.raises(UnparsableAnswerError):
            METHODS["unified_reward"].read(EDIT, says(wrong))


def test_unified_reward_edit_rates_the_original_with_the_edit_and_the_edit_alone():
    method = METHODS["unified_reward_edit"]
    shown = [question.messages[-1].content[:-1] for question in method.ask(EDIT)]
    assert shown == [(*EDIT.brief.sources, EDIT.candidate), (EDIT.candidate,)]
    score = method.read(EDIT, says('{"reasoning": "red", "score": [20, 16]}', '{"reasoning": "", "score": [25, 9]}'))
    assert score.raw_score == pytest.approx(math.sqrt(16 * 9))
    assert method.temperature == 0


@given(st.integers(1, 5), st.integers(1, 5))
def test_firm_edit_is_execution_that_consistency_can_only_raise(execution, consistency):
    answers = [f'{{"reasoning": "so", "score": [{execution}]}}', f'{{"reasoning": "", "score": {consistency}}}']
    score = METHODS["firm_edit"].read(EDIT, says(*answers))
    e, c = (execution - 1) / 4, (consistency - 1) / 4
    assert score.raw_score == pytest.approx(e * (0.6 + 0.4 * c))
    assert score.parts == pytest.approx({"execution": e, "consistency": c})
    assert score.reasoning == "so"


@pytest.mark.parametrize("answer", ["", "5", '{"score": []}', '{"score": [0]}', '{"score": [6]}', '{"score": [4, 5]}'])
def test_firm_edit_never_guesses(answer):
    with pytest.raises(UnparsableAnswerError):
        METHODS["firm_edit"].read(EDIT, says('{"score": [5]}', answer))


def test_the_verifier_answers_with_every_principle():
    score = METHODS["verifier"].read(EDIT, leans(0.8, 0.5))
    # F = 0.8 with weight 2, K = 0.5 with weight 1.
    assert score.raw_score == pytest.approx(0.8 * (2 + 0.5) / 3)
    assert score.parts == pytest.approx({"follow": 0.8, "keep": 0.5})
    assert score.score_mass == pytest.approx(0.9)
    first, second = score.details["principles"]
    assert (first["question"], first["category"], first["weight"]) == ("Is it red?", "follow", 2.0)
    assert (first["score"], first["verdict"], second["verdict"]) == (pytest.approx(0.8), True, False)


def test_the_reasoning_verifier_wants_a_verdict_for_every_principle():
    method = METHODS["verifier_cot"]
    decided = '[{"point": 1, "seen": "red", "holds": 1}, {"point": 2, "seen": "moved", "holds": 0}]'
    score = method.read(EDIT, says(decided))
    assert score.raw_score == pytest.approx(2 / 3)
    assert score.reasoning == "1. red\n2. moved"
    for wrong in ('[{"point": 1, "holds": 1}]', decided.replace('"holds": 0', '"holds": 0.5'), "yes, no", "[]"):
        with pytest.raises(UnparsableAnswerError):
            method.read(EDIT, says(wrong))


def test_the_default_composite_gates_keeping_by_following():
    method = METHODS["composite"]
    assert len(method.ask(EDIT)) == len(PRINCIPLES)
    score = method.read(EDIT, leans(0.8, 0.5))
    assert score.raw_score == pytest.approx(0.8 * (0.6 + 0.4 * 0.5))
    assert set(score.details["components"]) == {"verifier"}


def test_a_composite_without_a_component_has_no_score():
    only_follow = Edit(EDIT.brief, EDIT.candidate, PRINCIPLES[:1])
    with pytest.raises(UnparsableAnswerError, match=r"verifier\.keep has no score for this edit"):
        METHODS["composite"].read(only_follow, leans(0.8))


def test_a_recipe_may_come_as_json_text():
    fields = {"instruction": "x", "sources": (b"a",), "candidates": (b"b",), "method": "composite"}
    group = EditGroup.model_validate({**fields, "composite": '{"rule": "min", "weights": {"score_logit": 1}}'})
    assert group.composite == Combination(rule="min", weights={"score_logit": 1.0})


def test_an_adapter_answers_the_method_of_its_name(tmp_path):
    methods = load_methods(adapters={"editscore": tmp_path})
    adapters = {name: {question.spec.adapter for question in method.ask(EDIT)} for name, method in methods.items()}
    assert adapters.pop("editscore") == {"editscore"}
    assert set().union(*adapters.values()) == {None}
