"""Every kind of bad input is answered as documented in http-api.md, within a second, and the service keeps running."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.serving import encoded, picture, png, png_bomb

GOOD = png(0)
INSTRUCTION = {"instruction": "make it blue"}
SECONDS = 1.0


@pytest.fixture(scope="module")
def http(service_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service_url, timeout=30) as client:
        send(client)  # the first run of the model warms it up
        yield client


@pytest.fixture(autouse=True)
def alive_afterwards(http: httpx.Client) -> Iterator[None]:
    yield
    assert http.get("/readyz").status_code == 200
    assert send(http).json()["results"][0]["status"] == "ok"


def send(
    http: httpx.Client,
    data: dict[str, str] | None = None,
    source: bytes = GOOD,
    candidates: tuple[bytes, ...] = (GOOD,),
) -> httpx.Response:
    files = [("source", ("s", source)), *(("candidates", ("c", candidate)) for candidate in candidates)]
    return http.post("/v1/score", data=INSTRUCTION | (data or {}), files=files)


def assert_problem(answer: httpx.Response, status: int, code: str, *words: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code), problem
    assert {"type", "title", "detail"} <= set(problem)
    assert all(word in problem["detail"] for word in words), problem["detail"]
    assert answer.elapsed.total_seconds() < SECONDS


@pytest.mark.parametrize(
    ("candidate", "code"),
    [
        (b"not an image", "invalid_image"),
        (b"", "invalid_image"),
        (GOOD[: len(GOOD) // 2], "invalid_image"),
        (encoded(picture(0), "GIF"), "unsupported_image_type"),
        (png_bomb(), "image_too_large"),
    ],
    ids=["text", "empty", "truncated", "gif", "bomb"],
)
def test_a_bad_candidate_is_an_error_in_its_place(http, candidate, code):
    answer = send(http, candidates=(GOOD, candidate, GOOD))
    assert answer.status_code == 200
    assert answer.elapsed.total_seconds() < SECONDS
    first, bad, last = answer.json()["results"]
    assert (bad["status"], bad["index"], bad["error"]["code"]) == ("error", 1, code)
    assert "candidate 1" in bad["error"]["message"]
    assert "score" not in bad
    assert first["score"] == pytest.approx(last["score"], abs=1e-5)


@pytest.mark.parametrize(
    ("source", "status", "code"),
    [
        (b"not an image", 422, "invalid_image"),
        (GOOD[:100], 422, "invalid_image"),
        (encoded(picture(0), "GIF"), 415, "unsupported_image_type"),
        (png_bomb(), 413, "image_too_large"),
    ],
    ids=["text", "truncated", "gif", "bomb"],
)
def test_a_bad_source_refuses_the_group(http, source, status, code):
    assert_problem(send(http, source=source), status, code, "source 0")


@pytest.mark.parametrize(
    ("data", "code", "word"),
    [
        ({"instruction": ""}, "invalid_field", "instruction"),
        ({"instruction": "   "}, "invalid_field", "instruction"),
        ({"instruction": "x" * 9000}, "invalid_field", "8,192 (max_text_chars)"),
        ({"instruction": "an <|image_pad|> more"}, "invalid_field", "<|image_pad|>"),
        ({"method": "guess"}, "unknown_method", "score_logit, score_logit_direct, yes_no_logit"),
        ({"task": "juggle"}, "unknown_task", "remove"),
        ({"seed": "soon"}, "invalid_field", "seed"),
        ({"num_passes": "0"}, "invalid_field", "num_passes"),
        ({"reasoning": "perhaps"}, "invalid_field", "reasoning"),
        ({"sede": "1"}, "unknown_field", "did you mean 'seed'?"),
    ],
)
def test_a_bad_value_is_named(http, data, code, word):
    assert_problem(send(http, data), 422, code, word)


def test_a_body_that_is_no_object_is_named_as_a_whole(http):
    assert_problem(http.post("/v1/score", json=[]), 422, "invalid_field", "(whole): Input should be")


def test_no_candidates(http):
    assert_problem(send(http, candidates=()), 422, "invalid_field", "candidates")


def test_ten_thousand_candidates(http):
    assert_problem(send(http, candidates=(GOOD,) * 10_000), 413, "too_many_candidates", "64 (max_candidates)")


def test_a_text_where_a_file_belongs(http):
    answer = http.post("/v1/score", data={**INSTRUCTION, "source": "/etc/passwd"}, files={"candidates": GOOD})
    assert_problem(answer, 422, "invalid_field", "source: must be a file")


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed_json"),
        (b"\xff\xfe", "application/json", 400, "malformed_json"),
        (b"[" * 100_000, "application/json", 400, "malformed_json"),
        (b"[]", "application/json", 422, "invalid_field"),
        (b'{"instruction": 3, "source": "", "candidates": {}}', "application/json", 422, "invalid_field"),
        (b"plain", "text/plain", 415, "unsupported_media_type"),
        (b"junk", "multipart/form-data", 400, "malformed_form"),
        (b"junk", "multipart/form-data; boundary=x", 400, "malformed_form"),
        (b"", "", 415, "unsupported_media_type"),
    ],
)
def test_a_malformed_body(http, body, content_type, status, code):
    assert_problem(http.post("/v1/score", content=body, headers={"Content-Type": content_type}), status, code)


@pytest.mark.parametrize("image", ["http://127.0.0.1/a.png", "file:///etc/passwd", "../a.png"])
def test_an_address_is_never_opened(http, image):
    body = json.dumps({**INSTRUCTION, "source": image, "candidates": [image]})
    answer = http.post("/v1/score", content=body, headers={"Content-Type": "application/json"})
    assert_problem(answer, 422, "invalid_field", "base64")


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "streamed"])
def test_a_huge_body_is_refused_without_being_read(http, announced):
    megabyte, sent = b"x" * 2**20, 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="source"; filename="a"\r\n\r\n'
        for _ in range(20_000):
            sent += 1
            yield megabyte

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    if announced:
        headers["Content-Length"] = str(20_000 * 2**20)
    answer = http.post("/v1/score", content=body(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    limit = http.get("/v1/info").json()["limits"]["max_body_bytes"]
    assert f"{limit:,} (max_body_bytes)" in answer.json()["detail"]
    assert sent < 10_000  # of 20,000 megabytes


def test_unknown_paths_and_verbs_have_the_same_shape(http):
    assert_problem(http.get("/v1/nothing"), 404, "not_found")
    assert_problem(http.get("/v1/score"), 405, "method_not_allowed")


def test_a_client_that_goes_away_harms_nobody(http):
    with pytest.raises(httpx.TimeoutException):
        httpx.post(
            f"{http.base_url}/v1/score",
            data={**INSTRUCTION, "method": "score_sampling_cot"},
            files=[("source", GOOD), *[("candidates", GOOD)] * 30],
            timeout=httpx.Timeout(5, read=0.05),
        )


def test_a_slow_client_blocks_nobody(http):
    def trickle() -> Iterator[bytes]:
        yield b"--x\r\n"
        time.sleep(0.5)
        started = time.perf_counter()
        assert send(http).status_code == 200
        assert time.perf_counter() - started < SECONDS
        yield b"--x--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer: Any = httpx.post(f"{http.base_url}/v1/score", content=trickle(), headers=headers)
    assert answer.status_code in (400, 422)
