"""The wire models: what a client may send, and how scores and errors are distinguished."""

import base64

import pytest
from pydantic import ValidationError

from edit_r1.shared.schemas import CandidateError, CandidateScore, EditGroup, JsonScoreRequest, ScoreResponse

IMAGE = base64.b64encode(b"bytes").decode()


def test_json_takes_base64_and_data_urls_one_or_several():
    body = {"instruction": " x ", "source": IMAGE, "candidates": [IMAGE, f"data:image/png;base64,{IMAGE}"]}
    group = JsonScoreRequest.model_validate(body).to_group()
    assert group == EditGroup(instruction="x", sources=(b"bytes",), candidates=(b"bytes", b"bytes"))


@pytest.mark.parametrize(
    "image", ["http://example.org/a.png", "file:///etc/passwd", "/etc/passwd", "data:image/png,abc", 3, None]
)
def test_json_images_are_never_addresses(image):
    with pytest.raises(ValidationError):
        JsonScoreRequest.model_validate({"instruction": "x", "source": [image], "candidates": [IMAGE]})


@pytest.mark.parametrize(
    "changes",
    [{"instruction": "  "}, {"candidates": ()}, {"sources": ()}, {"num_passes": 0}, {"seed": -1}, {"metod": "x"}],
)
def test_a_group_that_cannot_be_scored_cannot_be_made(changes):
    values = {"instruction": "x", "sources": (b"a",), "candidates": (b"b",), **changes}
    with pytest.raises(ValidationError):
        EditGroup.model_validate(values)


def test_results_are_told_apart_by_status():
    body = """{"id": "1", "model": "m", "method": "score_logit", "timing_ms": {"queue": 0, "engine": 1, "total": 1},
      "results": [{"index": 0, "status": "ok", "score": 0.5, "raw_score": 2.5, "new_field": 1},
                  {"index": 1, "status": "error", "error": {"code": "invalid_image", "message": "no"}}]}"""
    good, bad = ScoreResponse.model_validate_json(body).results
    assert isinstance(good, CandidateScore)
    assert good.score == 0.5
    assert isinstance(bad, CandidateError)
    assert not hasattr(bad, "score")


def test_a_score_outside_its_range_is_no_score():
    with pytest.raises(ValidationError):
        CandidateScore(index=0, score=1.2, raw_score=6)
