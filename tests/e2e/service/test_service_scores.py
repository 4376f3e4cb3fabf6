"""A candidate's score does not depend on others: it is the same alone, in a group, in any order, in both formats."""

import base64

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edit_r1.reward_service.methods import METHODS
from edit_r1.shared.images import encode
from tests.support.serving import encoded, picture, png

TOLERANCE = 1e-5
SIDES = (32, 48, 64)
LOGIT_METHODS = ["score_logit", "yes_no_logit", "score_logit_cot"]


def scores(url: str, source: bytes, candidates: list[bytes], **data: str) -> list[float]:
    files = [("source", source), *(("candidates", candidate) for candidate in candidates)]
    answer = httpx.post(f"{url}/v1/score", data={"instruction": "make it blue", **data}, files=files, timeout=60)
    assert answer.status_code == 200, answer.text
    return [result["score"] for result in answer.json()["results"]]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["score_logit", "yes_no_logit"]),
    candidates=st.lists(st.tuples(st.integers(0, 9), st.sampled_from(SIDES)), min_size=2, max_size=12),
    order=st.randoms(use_true_random=False),
)
def test_the_score_does_not_depend_on_the_group(service_url, method, candidates, order):
    images = [png(seed, side) for seed, side in candidates]
    together = scores(service_url, png(100), images, method=method)
    shuffled = list(range(len(images)))
    order.shuffle(shuffled)
    reordered = scores(service_url, png(100), [images[i] for i in shuffled], method=method)
    assert [together[i] for i in shuffled] == pytest.approx(reordered, abs=TOLERANCE)
    alone = scores(service_url, png(100), images[:1], method=method)
    assert alone == pytest.approx(together[:1], abs=TOLERANCE)


def test_different_edits_and_instructions_score_differently(service_url):
    found = scores(service_url, png(100), [png(i) for i in range(8)])
    assert max(found) - min(found) > 0.05
    other = scores(service_url, png(100), [png(i) for i in range(8)], requirement="a different one")
    assert max(abs(a - b) for a, b in zip(found, other, strict=True)) > 0.01


def test_a_group_larger_than_a_batch(service_url):
    images = [png(i) for i in range(60)]
    together = scores(service_url, png(100), images)
    assert together[-1:] == pytest.approx(scores(service_url, png(100), images[-1:]), abs=TOLERANCE)


def test_lossless_codecs_give_the_same_score(service_url):
    image = picture(3)
    as_png, as_webp = scores(service_url, png(100), [encoded(image), encode(image)])
    assert as_png == pytest.approx(as_webp, abs=TOLERANCE)


def test_json_gives_the_same_score_as_a_form(service_url):
    text = [base64.b64encode(png(seed)).decode() for seed in (100, 1, 2)]
    body = {"instruction": "make it blue", "source": text[0], "candidates": text[1:]}
    answer = httpx.post(f"{service_url}/v1/score", json=body).json()
    found = [result["score"] for result in answer["results"]]
    assert found == pytest.approx(scores(service_url, png(100), [png(1), png(2)]), abs=TOLERANCE)


@pytest.mark.parametrize("method", LOGIT_METHODS)
def test_logit_methods_answer_with_distribution_and_mass(service_url, method):
    files = [("source", png(100)), ("candidates", png(1)), ("candidates", png(2))]
    data = {"instruction": "make it blue", "method": method, "reasoning": "true"}
    results = httpx.post(f"{service_url}/v1/score", data=data, files=files, timeout=60).json()["results"]
    for result in results:
        assert sum(result["distribution"].values()) == pytest.approx(1)
        assert tuple(result["distribution"]) == METHODS[method].labels
        assert 0 < result["score_mass"] < 1
        assert (result["reasoning"] is not None) == METHODS[method].reasoning


def test_a_reasoning_without_a_score_is_closed_and_flagged(service_url):
    """The random judge never writes the marker, so the service must."""
    files = [("source", png(100)), ("candidates", png(1))]
    data = {"instruction": "make it blue", "method": "score_logit_cot", "temperature": "1", "num_passes": "3"}
    result = httpx.post(f"{service_url}/v1/score", data=data, files=files, timeout=60).json()["results"][0]
    assert result["details"]["closed"] is True
    assert len(set(result["details"]["passes"])) == 3
    assert result["raw_score"] == pytest.approx(sum(result["details"]["passes"]) / 3)


def test_an_answer_without_a_score_is_an_error(service_url):
    """The random judge writes nonsense: parsing fails, which is an error and not a 0."""
    files = [("source", png(100)), ("candidates", png(1))]
    data = {"instruction": "make it blue", "method": "score_sampling_cot"}
    result = httpx.post(f"{service_url}/v1/score", data=data, files=files, timeout=60).json()["results"][0]
    assert result["status"] == "error"
    assert result["error"]["code"] == "unparsable_answer"


def test_the_same_seed_gives_the_same_reasoning(service_url):
    files = [("source", png(100)), ("candidates", png(1)), ("candidates", png(2))]

    def reasonings(seed: int) -> list[str]:
        data = {"instruction": "x", "method": "score_logit_cot", "temperature": "1", "reasoning": "true", "seed": seed}
        answer = httpx.post(f"{service_url}/v1/score", data=data, files=files, timeout=60).json()
        return [result["reasoning"] for result in answer["results"]]

    assert reasonings(1) == reasonings(1) != reasonings(2)
