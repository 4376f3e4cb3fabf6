"""POST /v1/score/batch: the same scores as one by one, in order; a bad group does not affect the others."""

import base64
import json
from typing import Any

import httpx
import pytest

from tests.support.serving import png

GROUPS: list[dict[str, Any]] = [
    {"instruction": "make it blue", "source": "a", "candidates": ["x", "y"]},
    {"instruction": "make it red", "source": ["b"], "candidates": ["y"], "method": "yes_no_logit"},
]
FILES = {"a": png(100), "b": png(101), "x": png(1), "y": png(2)}


def one_by_one(url: str) -> list[list[float]]:
    found = []
    for group in GROUPS:
        names = [("source", name) for name in group["source"]] + [("candidates", name) for name in group["candidates"]]
        texts = {name: value for name, value in group.items() if name in {"instruction", "method"}}
        answer = httpx.post(f"{url}/v1/score", data=texts, files=[(field, FILES[name]) for field, name in names])
        found.append([result["score"] for result in answer.json()["results"]])
    return found


def as_form(url: str, groups: object, files: dict[str, bytes] = FILES) -> httpx.Response:
    return httpx.post(f"{url}/v1/score/batch", data={"groups": json.dumps(groups)}, files=files, timeout=60)


def scores(answer: httpx.Response) -> list[list[float]]:
    assert answer.status_code == 200, answer.text
    return [[result["score"] for result in group["results"]] for group in answer.json()]


def test_a_batch_scores_as_its_groups_do_alone(service_url):
    expected = one_by_one(service_url)
    answer = as_form(service_url, GROUPS)
    assert [group["method"] for group in answer.json()] == ["score_logit", "yes_no_logit"]
    for found, alone in zip(scores(answer), expected, strict=True):
        assert found == pytest.approx(alone, abs=1e-5)


def test_json_and_form_agree(service_url):
    def text(names: list[str]) -> list[str]:
        return [base64.b64encode(FILES[name]).decode() for name in names]

    groups = [{**one, "source": text(list(one["source"])), "candidates": text(one["candidates"])} for one in GROUPS]
    found = scores(httpx.post(f"{service_url}/v1/score/batch", json={"groups": groups}, timeout=60))
    assert found == [pytest.approx(alone, abs=1e-5) for alone in one_by_one(service_url)]


def test_a_bad_group_is_a_problem_in_its_place(service_url):
    wrong = [
        {**GROUPS[0], "source": "z"},
        {**GROUPS[0], "method": "vibes"},
        {**GROUPS[0], "source": "broken"},
        {"source": "a", "candidates": ["x"]},
        "no group",
    ]
    answer = as_form(service_url, [GROUPS[0], *wrong, GROUPS[1]], {**FILES, "broken": b"no image"})
    assert answer.status_code == 200
    first, *problems, last = answer.json()
    alone = one_by_one(service_url)
    assert [result["score"] for result in first["results"]] == pytest.approx(alone[0], abs=1e-5)
    assert [result["score"] for result in last["results"]] == pytest.approx(alone[1], abs=1e-5)
    assert [problem["code"] for problem in problems] == [
        "invalid_field",
        "unknown_method",
        "invalid_image",
        "invalid_field",
        "invalid_field",
    ]
    assert "no file part named 'z'; found: a, b, x, y" in problems[0]["detail"]
    assert "instruction" in problems[3]["detail"]


@pytest.mark.parametrize(
    ("groups", "status", "named"),
    [("{", 400, "groups: not JSON"), ("[]", 422, "at least one group"), (json.dumps(GROUPS * 40), 413, "max_groups")],
)
def test_a_bad_list_is_refused_as_a_whole(service_url, groups, status, named):
    answer = httpx.post(f"{service_url}/v1/score/batch", data={"groups": groups}, files=FILES)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert named in answer.json()["detail"]


def test_a_form_needs_the_list(service_url):
    answer = httpx.post(f"{service_url}/v1/score/batch", files=FILES)
    assert answer.status_code == 422
    assert answer.json()["detail"] == "groups: the part is missing"
