"""Methods with several questions in the real service: shared images, shared principles, weighted components."""

import json
from typing import Any

import httpx
import pytest

from tests.support.serving import png, reward_service

TOLERANCE = 1e-5
PRINCIPLES: list[dict[str, Any]] = [
    {"question": "Is it blue?", "category": "follow", "weight": 2},
    {"question": "Is the rest as it was?", "category": "keep"},
    {"question": "Is it sharp?", "category": "quality"},
]


@pytest.fixture(scope="module")
def url(tiny_judge):
    # A judge of random weights cannot write principles.
    with reward_service(tiny_judge, principles="texts", max_reasoning_tokens=64) as url:
        yield url


def results(url: str, **data: object) -> list[dict[str, Any]]:
    files = [("source", png(100)), ("candidates", png(1)), ("candidates", png(2)), ("candidates", b"no image")]
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in data.items()}
    answer = httpx.post(f"{url}/v1/score", data={"instruction": "make it blue", **texts}, files=files, timeout=60)
    assert answer.status_code == 200, answer.text
    *scored, broken = answer.json()["results"]
    assert broken["error"]["code"] == "invalid_image"
    found: list[dict[str, Any]] = scored
    return found


def test_a_verifiers_principle_is_a_yes_no_question_of_its_own(url):
    """p(Yes) of each principle is the same alone as with the others."""
    together = results(url, method="verifier", principles=PRINCIPLES)
    alone = [results(url, method="verifier", principles=[one]) for one in PRINCIPLES]
    for index, result in enumerate(together):
        found = [principle["score"] for principle in result["details"]["principles"]]
        assert found == pytest.approx([one[index]["details"]["principles"][0]["score"] for one in alone], abs=TOLERANCE)
        follow, keep, quality = found
        assert result["score"] == pytest.approx(follow * (2 + keep + quality) / 4, abs=TOLERANCE)
        assert result["details"]["parts"] == pytest.approx({"follow": follow, "keep": keep, "quality": quality})
        assert 0 < result["score_mass"] < 1


def test_the_services_own_principles_depend_on_the_task(url):
    questions = [
        [one["question"] for one in results(url, method="verifier", task=task)[0]["details"]["principles"]]
        for task in ("remove", "Text Edit", "default")
    ]
    assert all("make it blue" in listed[0] for listed in questions)
    assert len({tuple(listed) for listed in questions}) == 3


def test_a_composite_is_its_components_weighed(url):
    names = ("score_logit", "yes_no_logit", "verifier")
    alone = {name: results(url, method=name, principles=PRINCIPLES) for name in names}
    weights = {"score_logit": 0.5, "yes_no_logit": 0.2, "verifier.keep": 0.3}
    recipe = {"rule": "mean", "weights": weights}
    for index, result in enumerate(results(url, method="composite", composite=recipe, principles=PRINCIPLES)):
        parts = {name: alone[name][index]["score"] for name in names}
        parts["verifier.keep"] = alone["verifier"][index]["details"]["parts"]["keep"]
        expected = sum(weight * parts[name] for name, weight in weights.items())
        assert result["score"] == pytest.approx(expected, abs=TOLERANCE)
        found = {name: one["score"] for name, one in result["details"]["components"].items()}
        assert found == pytest.approx({name: parts[name] for name in names}, abs=TOLERANCE)


def test_execution_gates_consistency(url):
    recipe = {"rule": "shaping", "execution": "score_logit", "consistency": "yes_no_logit", "w1": 3, "w2": 1}
    for result in results(url, method="composite", composite=recipe):
        execution, consistency = (one["score"] for one in result["details"]["components"].values())
        assert result["score"] == pytest.approx(execution * (3 + consistency) / 4, abs=TOLERANCE)


@pytest.mark.parametrize("method", ["editscore", "unified_reward_edit", "firm_edit", "verifier_cot"])
def test_a_judge_that_babbles_gets_no_score(url, method):
    for result in results(url, method=method):
        assert result["status"] == "error"
        assert result["error"]["code"] == "unparsable_answer"


def test_a_judge_that_cannot_write_principles_scores_nothing(service_url):
    for result in results(service_url, method="verifier"):
        assert result["error"]["code"] == "unparsable_answer"
        assert "wrote no principles in 3 tries" in result["error"]["message"]


def test_the_prompt_shows_every_question(url):
    files = [("source", png(100)), ("candidates", png(1))]
    data = {"instruction": "make it blue", "method": "verifier", "principles": json.dumps(PRINCIPLES)}
    answer = httpx.post(f"{url}/v1/prompt", data=data, files=files).json()
    assert len(answer["questions"]) == len(PRINCIPLES)
    assert answer["questions"][0]["text"] == answer["text"]
    for question, principle in zip(answer["questions"], PRINCIPLES, strict=True):
        assert principle["question"] in question["text"]
        images = [part["image"] for part in question["messages"][1]["content"] if part["type"] == "image"]
        assert images == ["source 0", "candidate 0"]


@pytest.mark.parametrize(
    ("data", "code", "named"),
    [
        ({"method": "composite", "composite": "{"}, "invalid_field", "composite: not JSON"),
        ({"method": "composite", "composite": '{"weights": {}}'}, "invalid_field", "composite: Unable to extract tag"),
        (
            {"method": "composite", "composite": '{"rule": "mean", "weights": {"vibes": 1}}'},
            "unknown_component",
            "no component 'vibes'; known: score_logit",
        ),
        (
            {"method": "composite", "composite": '{"rule": "mean", "weights": {"verifier.looks": 1}}'},
            "unknown_component",
            "verifier.quality",
        ),
        ({"composite": '{"rule": "mean", "weights": {"verifier": 1}}'}, "invalid_field", "which takes no recipe"),
        ({"method": "verifier", "principles": "[]"}, "invalid_field", "principles"),
        ({"method": "verifier", "principles": '[{"question": "?", "category": "x"}]'}, "invalid_field", "principles"),
        (
            {"method": "verifier", "principles": '[{"question": "<|im_end|>"}]'},
            "invalid_field",
            "principles.0: contains the judge's control token <|im_end|>",
        ),
    ],
)
def test_a_wrong_recipe_or_principle_is_refused_by_name(url, data, code, named):
    files = [("source", png(100)), ("candidates", png(1))]
    answer = httpx.post(f"{url}/v1/score", data={"instruction": "make it blue", **data}, files=files)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == code
    assert named in answer.json()["detail"]
