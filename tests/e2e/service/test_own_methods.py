"""Methods that a setting adds by import path: a chat method, and a measure beside the judge or without one."""

import asyncio
import json

import httpx
import numpy as np
import pytest
from PIL import Image

from edit_r1.reward_service.app import create_app
from edit_r1.reward_service.settings import Settings
from edit_r1.shared.client import RewardClient
from edit_r1.shared.errors import ConfigError, RewardRequestRejected
from edit_r1.shared.schemas import CandidateError, CandidateScore, Combination, EditGroup
from tests.support.own_methods import Redness
from tests.support.serving import encoded, picture, png, reward_service

OWN = {"redness": "tests.support.own_methods:Redness", "own": "tests.support.own_methods:own_yes_no"}
MEASURES = {"redness": OWN["redness"]}


@pytest.fixture(scope="module")
def beside_the_judge(tiny_judge):
    with reward_service(tiny_judge, methods=OWN, method_options={"redness": {"largest": 40}}) as url:
        yield url


@pytest.fixture(scope="module")
def without_a_judge(tmp_path_factory):
    with reward_service(tmp_path_factory.mktemp("none"), engine="none", methods=MEASURES) as url:
        yield url


def score(url: str, method: str, *candidates: bytes, **options: object):
    async def ask():
        async with RewardClient(url) as client:
            group = {"instruction": "redder", "sources": (png(7),), "candidates": candidates, "method": method}
            return await client.score(EditGroup.model_validate(group | options))

    return asyncio.run(ask()).results


def red(seed: int) -> float:
    return float(np.asarray(picture(seed))[..., 0].mean()) / 255


def test_a_measure_scores_a_group_in_one_call_and_never_asks_the_judge(beside_the_judge):
    Redness.calls.clear()
    found = score(beside_the_judge, "redness", png(1), b"no image", png(2), png(3, side=64))
    assert Redness.calls == [3]
    first, unreadable, second, large = found
    assert isinstance(first, CandidateScore)
    assert isinstance(second, CandidateScore)
    assert (first.score, second.score) == pytest.approx((red(1), red(2)))
    assert first.raw_score == pytest.approx(red(1) * 255)
    assert first.details["instruction"] == "redder"
    assert first.details["answer_tokens"] == 0
    assert isinstance(unreadable, CandidateError)
    assert unreadable.error.code == "invalid_image"
    assert isinstance(large, CandidateError)
    assert large.error.code == "not_measurable"
    assert large.error.message == "candidate 3: the width is 64; the limit is 40"


def test_whatever_a_measure_raises_is_every_candidates_error(beside_the_judge):
    broad = encoded(Image.new("RGB", (1004, 16)))
    for result in score(beside_the_judge, "redness", png(1), broad):
        assert isinstance(result, CandidateError)
        assert (result.error.code, result.error.message[13:]) == ("not_measurable", "redness: RuntimeError: broken")


def test_a_composite_weighs_a_measure_and_the_judge(beside_the_judge):
    weights = {"own": 1.0, "redness": 2.0, "redness.green": 1.0}
    (asked,) = score(beside_the_judge, "yes_no_logit", png(1))
    (own,) = score(beside_the_judge, "own", png(1))
    (result,) = score(beside_the_judge, "composite", png(1), composite=Combination(rule="mean", weights=weights))
    green = float(np.asarray(picture(1))[..., 1].mean()) / 255
    assert own.score == pytest.approx(asked.score, abs=1e-5)
    assert result.score == pytest.approx((own.score + 2 * red(1) + green) / 4, abs=1e-5)


def test_added_methods_are_listed(beside_the_judge, without_a_judge):
    listed = {one["name"]: one for one in httpx.get(f"{beside_the_judge}/v1/methods").json()}
    assert {"redness", "own", "score_logit", "composite"} <= set(listed)
    assert listed["redness"]["description"] == "How red the picture is."
    assert (listed["redness"]["raw_score_max"], listed["redness"]["parts"]) == (255, ["green"])
    assert [one["name"] for one in httpx.get(f"{without_a_judge}/v1/methods").json()] == ["redness", "composite"]
    info = httpx.get(f"{without_a_judge}/v1/info").json()
    assert (info["engine"], info["model"], info["labels"]) == ("none", "none", {})


def test_without_a_judge_measures_are_scored_and_all_else_is_refused(without_a_judge):
    (result,) = score(without_a_judge, "redness", png(1), task="a task without a prompt")
    assert result.score == pytest.approx(red(1))
    recipe = Combination(rule="geometric", weights={"redness": 1, "redness.green": 1})
    (both,) = score(without_a_judge, "composite", png(1), composite=recipe)
    assert both.score == pytest.approx((red(1) * result.details["parts"]["green"]) ** 0.5)
    for method in ("score_logit", "composite"):
        with pytest.raises(RewardRequestRejected, match=r"asks a judge, and this service has none.*: redness"):
            score(without_a_judge, method, png(1))
    chat = {"messages": [{"role": "user", "content": "hi"}]}
    answer = httpx.post(f"{without_a_judge}/v1/chat/completions", json=chat)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "the service has no judge (engine none)")
    files = [("source", png(1)), ("candidates", png(2))]
    answer = httpx.post(f"{without_a_judge}/v1/prompt", data={"instruction": "x", "method": "redness"}, files=files)
    assert (answer.status_code, answer.json()["code"]) == (422, "no_prompt")


def test_a_mask_is_as_large_as_the_source_and_arrives_in_every_body(without_a_judge):
    url = f"{without_a_judge}/v1/score"
    data = {"instruction": "x", "method": "redness"}
    files = [("source", png(1)), ("candidates", png(2))]
    small = httpx.post(url, data=data, files=[*files, ("mask", png(3, side=16))])
    assert (small.status_code, small.json()["detail"]) == (422, "mask: 16x16; it must be as large as source 0: 32x32")
    assert httpx.post(url, data=data, files=[*files, ("mask", png(3))]).status_code == 200
    twice = httpx.post(url, data=data, files=[*files, ("mask", png(3)), ("mask", png(3))])
    assert (twice.status_code, twice.json()["detail"]) == (422, "mask: given more than once")
    groups = [{**data, "source": "a", "candidates": "b", "mask": mask} for mask in ("a", "c", "d")]
    named = [(name, png(1, side)) for name, side in (("a", 32), ("b", 32), ("c", 16))]
    found = httpx.post(f"{url}/batch", data={"groups": json.dumps(groups)}, files=named).json()
    assert "results" in found[0]
    assert found[1]["detail"].startswith("mask: 16x16")
    assert found[2]["detail"].startswith("no file part named 'd'")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"methods": {"own": "nowhere"}},
            "methods.own = 'nowhere' must be package.module:attribute or a shipped measure",
        ),
        ({"methods": {"own": "nowhere:x"}}, "methods.own = 'nowhere:x': No module named 'nowhere'"),
        ({"methods": {"own": "tests.support.own_methods:x"}}, "has no attribute 'x'"),
        ({"methods": {"own": "tests.support.own_methods:OWN"}}, "has no attribute 'OWN'"),
        ({"methods": {"own": "tests.support.own_methods:Score"}}, "neither a function that returns a Method nor"),
        ({"methods": {"own": "tests.support.own_methods:no_method"}}, "returned str, expected a Method"),
        ({"methods": {"verifier": OWN["own"]}}, "methods.verifier: must be a new name"),
        ({"methods": OWN, "method_options": {"own": {"a": 1}}}, "is a function, which takes no options"),
        ({"methods": OWN, "method_options": {"red": {"a": 1}}}, "method_options.red: no such method is added"),
        ({"methods": OWN, "method_options": {"redness": {"large": 1}}}, "options of Redness: largest"),
        ({"methods": OWN, "adapters": {"redness": "x"}}, "'redness' is not a method that an adapter can serve"),
        ({"engine": "none"}, "engine: none serves only measures, and there is none"),
    ],
)
def test_an_added_method_that_cannot_be_served_stops_the_start(settings, message):
    with pytest.raises(ConfigError) as caught:
        create_app(Settings.model_validate(settings))
    assert message in str(caught.value)
