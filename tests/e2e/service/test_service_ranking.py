"""`ranking` in the real service: over multipart, JSON and batches; what it says about itself, and what it refuses."""

import base64
import json
from typing import Any

import httpx
import pytest

from tests.support.serving import png, reward_service

SOURCE, EDITS = png(100), [png(seed) for seed in range(1, 5)]
FORM = {"instruction": "make it blue", "method": "ranking"}


def post(url: str, *edits: bytes, path: str = "/v1/score", **data: str) -> httpx.Response:
    files = [("source", SOURCE), *(("candidates", edit) for edit in edits)]
    return httpx.post(url + path, data={**FORM, **data}, files=files, timeout=60)


def results(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


def scores(answer: httpx.Response) -> list[float]:
    return [one["score"] for one in results(answer)]


def test_scores_are_shares_of_wins_in_a_group_however_it_is_sent(service_url):
    found = results(post(service_url, *EDITS))
    assert sum(one["score"] for one in found) == pytest.approx(len(EDITS) / 2)
    assert len({one["score"] for one in found}) == len(EDITS)
    assert [one["details"]["comparisons"] for one in found] == [3] * 4
    assert all(abs(one["details"]["position_bias"]) < 0.5 and 0 < one["score_mass"] < 1 for one in found)

    expected = pytest.approx([one["score"] for one in found], abs=1e-5)
    assert scores(post(service_url, *reversed(EDITS)))[::-1] == expected
    source, *edits = (base64.b64encode(data).decode() for data in (SOURCE, *EDITS))
    body = {**FORM, "source": source, "candidates": edits}
    assert scores(httpx.post(f"{service_url}/v1/score", json=body, timeout=60)) == expected
    files = [(name, data) for name, data in zip("sabcd", (SOURCE, *EDITS), strict=True)]
    groups = json.dumps(
        [{**FORM, "source": "s", "candidates": list("abcd")}, {**FORM, "source": "s", "candidates": ["a"]}]
    )
    whole, single = httpx.post(f"{service_url}/v1/score/batch", data={"groups": groups}, files=files, timeout=60).json()
    assert [one["score"] for one in whole["results"]] == expected
    assert (single["status"], single["code"]) == (422, "too_few_candidates")


def test_the_score_depends_on_the_group_and_not_on_what_cannot_be_read(service_url):
    pair = scores(post(service_url, *EDITS[:2]))
    assert pair != pytest.approx(scores(post(service_url, *EDITS))[:2], abs=1e-4)
    first, broken, second = results(post(service_url, EDITS[0], b"no image", EDITS[1]))
    assert [first["score"], second["score"]] == pytest.approx(pair, abs=1e-5)
    assert broken["error"]["code"] == "invalid_image"
    alone, _ = results(post(service_url, EDITS[0], b"no image"))
    assert alone["error"]["code"] == "not_comparable"


def test_the_prompt_shows_both_versions_in_both_orders(service_url):
    answer = post(service_url, *EDITS, path="/v1/prompt").json()
    shown = [
        [part["image"] for part in question["messages"][1]["content"] if part["type"] == "image"]
        for question in answer["questions"]
    ]
    assert sorted(shown) == [["source 0", "candidate 0", "candidate 1"], ["source 0", "candidate 1", "candidate 0"]]
    assert "make it blue" in answer["text"]


def test_the_service_says_which_methods_compare(service_url):
    methods = httpx.get(f"{service_url}/v1/methods").json()
    assert [method["name"] for method in methods if method["relative"]] == ["ranking"]
    info = httpx.get(f"{service_url}/v1/info").json()
    assert info["relative_methods"] == ["ranking"]
    assert {"A", "B"} <= set(info["labels"])


@pytest.mark.parametrize(
    ("edits", "data", "named"),
    [
        (1, {}, "candidates: ranking compares the candidates of a group and needs at least 2; found 1"),
        (2, {"num_passes": "2"}, "num_passes: 2 passes of ranking"),
        (2, {"temperature": "1"}, "temperature: ranking does not sample"),
        (
            2,
            {"method": "composite", "composite": '{"rule": "mean", "weights": {"ranking": 1}}'},
            "no component 'ranking'",
        ),
    ],
)
def test_other_uses_are_refused(service_url, edits, data, named):
    answer = post(service_url, *EDITS[:edits], **data)
    assert answer.status_code == 422
    assert named in answer.json()["detail"]


def test_a_prompt_of_ones_own_with_its_answer_prefix(tiny_judge, tmp_path):
    (tmp_path / "ranking.txt").write_text("{instruction}\n")
    (tmp_path / "ranking.answer.txt").write_text("Better: \n")
    with reward_service(tiny_judge, prompts=tmp_path, max_opponents=2) as url:
        assert post(url, *EDITS, path="/v1/prompt").json()["text"].endswith("Better: ")
        assert [one["details"]["comparisons"] for one in results(post(url, *EDITS))] == [2] * 4
