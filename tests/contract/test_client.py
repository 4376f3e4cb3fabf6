"""The trainer's client against the real application, over real HTTP."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from edit_r1.reward_service.app import create_app
from edit_r1.reward_service.methods import GROUP_METHODS, METHODS
from edit_r1.reward_service.settings import Settings
from edit_r1.shared.client import RewardClient
from edit_r1.shared.errors import RewardRequestRejected, RewardServiceUnavailable
from edit_r1.shared.images import encode
from edit_r1.shared.schemas import CandidateError, CandidateScore, EditGroup
from tests.support.serving import free_port, picture, png, png_bomb, reward_service, serving

pytestmark = pytest.mark.anyio

GROUP = EditGroup(
    instruction="make it blue",
    sources=(encode(picture(0)),),
    candidates=(encode(picture(1)), b"not an image", png_bomb(), encode(picture(2))),
)


class Flaky:
    """Answers the first requests to /v1/score with 503, then passes requests on."""

    def __init__(self, app: ASGIApp, *, refusals: int, retry_after: str | None = "0") -> None:
        self.app, self.refusals, self.retry_after = app, refusals, retry_after
        self.num_seen = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/v1/score":
            self.num_seen += 1
            if self.num_seen <= self.refusals:
                await self._refuse(send)
                return
        await self.app(scope, receive, send)

    async def _refuse(self, send: Send) -> None:
        problem = {"title": "Service Unavailable", "status": 503, "detail": "busy", "code": "queue_full"}
        headers = [(b"retry-after", self.retry_after.encode())] if self.retry_after else []
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(problem).encode()})


async def test_results_stand_in_the_order_of_the_candidates(service_url):
    async with RewardClient(service_url) as client:
        results = (await client.score(GROUP)).results
    assert [result.index for result in results] == [0, 1, 2, 3]
    assert [type(result) for result in results] == [CandidateScore, CandidateError, CandidateError, CandidateScore]
    assert [result.error.code for result in results if isinstance(result, CandidateError)] == [
        "invalid_image",
        "image_too_large",
    ]


async def test_a_group_of_only_bad_candidates_is_answered(service_url):
    async with RewardClient(service_url) as client:
        results = (await client.score(GROUP.model_copy(update={"candidates": (b"x", b"y")}))).results
    assert [result.status for result in results] == ["error", "error"]


async def test_scores_are_expectations_of_their_distributions(service_url):
    async with RewardClient(service_url) as client:
        result = (await client.score(GROUP)).results[0]
    assert isinstance(result, CandidateScore)
    assert result.distribution
    assert result.score_mass
    expected = sum(float(label) * share for label, share in result.distribution.items())
    assert result.raw_score == pytest.approx(expected)
    assert result.score == pytest.approx(expected / 5)
    assert sum(result.distribution.values()) == pytest.approx(1)
    assert 0 < result.score_mass < 1


async def test_what_the_service_says_about_itself(service_url, tiny_judge):
    async with RewardClient(service_url) as client:
        info = await client.wait_ready(10)
        methods = await client.methods()
    assert (info.model, info.engine, info.ready) == (tiny_judge.name, "transformers", True)
    assert info.methods == tuple(method.name for method in methods) == (*METHODS, *GROUP_METHODS)
    assert {"torch", "transformers"} <= set(info.versions)


async def test_the_prompt_is_what_the_judge_would_get(service_url):
    group = GROUP.model_copy(update={"sources": GROUP.sources * 2, "requirement": "keep the rest"})
    async with RewardClient(service_url) as client:
        prompt = await client.prompt(group)
    user = prompt.messages[1].content
    assert [part.image for part in user if part.type == "image"] == ["source 0", "source 1", "candidate 0"]
    assert "Instruction: make it blue\nRequirements: keep the rest\n" in prompt.text
    assert prompt.text.endswith('<|im_start|>assistant\n"Score": [[')


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"method": "guess"}, 422, "unknown_method"),
        ({"task": "juggle"}, 422, "unknown_task"),
        ({"sources": (b"not an image",)}, 422, "invalid_image"),
        ({"candidates": GROUP.candidates[:1] * 100}, 413, "too_many_candidates"),
        ({"num_passes": 3}, 422, "invalid_field"),
        ({"temperature": 0.5}, 422, "invalid_field"),
    ],
)
async def test_a_refusal_is_raised_with_its_problem_and_not_tried_again(service_url, changes, status, code):
    async with RewardClient(service_url) as client:
        started = time.perf_counter()
        with pytest.raises(RewardRequestRejected) as caught:
            await client.score(GROUP.model_copy(update=changes))
    assert (caught.value.problem.status, caught.value.problem.code) == (status, code)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("retry_after", ["0", None])
async def test_a_busy_service_is_tried_again(tiny_judge, retry_after):
    app = Flaky(create_app(settings(tiny_judge)), refusals=2, retry_after=retry_after)
    with serving(app) as url:
        async with RewardClient(url) as client:
            await client.wait_ready(60)
            scores = await client.score(GROUP)
    assert app.num_seen == 3
    assert scores.results[0].status == "ok"


async def test_a_service_that_stays_busy_is_unavailable(tiny_judge):
    app = Flaky(create_app(settings(tiny_judge)), refusals=1000, retry_after="0")
    with serving(app) as url:
        async with RewardClient(url, retry_seconds=0.5) as client:
            with pytest.raises(RewardServiceUnavailable, match="503 queue_full: busy"):
                await client.score(GROUP)


async def test_waiting_says_why_and_ends_when_ready(tiny_judge):
    told: list[str] = []
    port = free_port()
    async with RewardClient(f"http://127.0.0.1:{port}") as client:
        waiting = asyncio.create_task(client.wait_ready(60, told.append))
        while not told:
            await asyncio.sleep(0.01)
        with serving(create_app(settings(tiny_judge)), port):
            assert (await waiting).ready
    assert told[0] == f"waiting for the reward service at {client.url}: cannot connect (nothing is listening there)"
    assert len(told) == len(set(told))


async def test_waiting_for_nobody_ends_in_one_clear_error():
    told: list[str] = []
    async with RewardClient("http://127.0.0.1:9") as client:
        with pytest.raises(RewardServiceUnavailable, match=r"127\.0\.0\.1:9 not ready after 0\.6 s: cannot connect"):
            await client.wait_ready(0.6, told.append)
    assert len(told) == 1


async def test_many_groups_at_once_each_get_their_own_scores(service_url):
    groups = [GROUP.model_copy(update={"candidates": (png(i), png(i + 1))}) for i in range(30)]
    async with RewardClient(service_url, max_in_flight=8) as client:
        together = await asyncio.gather(*map(client.score, groups))
        alone = [await client.score(group) for group in groups[::10]]
    for one, other in zip(together[::10], alone, strict=True):
        for a, b in zip(one.results, other.results, strict=True):
            assert isinstance(a, CandidateScore)
            assert isinstance(b, CandidateScore)
            assert a.score == pytest.approx(b.score, abs=1e-5)


async def test_a_key_is_asked_for_and_taken_without_its_line_break(tiny_judge):
    with reward_service(tiny_judge, api_key="secret\n") as url:
        for key in (None, "wrong"):
            async with RewardClient(url, api_key=key) as client:
                with pytest.raises(RewardRequestRejected) as caught:
                    await client.score(GROUP)
            assert caught.value.problem.status == 401
        async with RewardClient(url, api_key=" secret\r\n") as client:
            assert (await client.score(GROUP)).results[0].status == "ok"


def settings(checkpoint: Path) -> Settings:
    return Settings(model=str(checkpoint), engine="transformers", calibration="none")
