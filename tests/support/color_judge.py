"""A small reward service over real HTTP that scores redness, for tests that need a reward but not a judge.

    with serving(ColorJudge()) as url: ...

It uses the wire format of `shared.schemas`, and fails on demand.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import numpy as np
from fastapi import FastAPI, File, Form, Response, UploadFile

from edit_r1.shared import images
from edit_r1.shared.schemas import (
    CandidateError,
    CandidateResult,
    CandidateScore,
    ErrorBody,
    Limits,
    Problem,
    ScoreResponse,
    ServiceInfo,
    Timing,
)
from tests.support.serving import serving as serving_app


class ColorJudge:
    """Scores redness. Candidates in `failing` get an error; the other attributes change its behaviour while it runs."""

    def __init__(self, *, failing: frozenset[int] = frozenset(), ready: bool = True, refuse: bool = False) -> None:
        self.failing, self.ready, self.refuse = failing, ready, refuse
        self.failing_groups: dict[int, frozenset[int]] = {}
        """Number of a group, in order of arrival -> candidates that get an error."""
        self.away = False
        self.groups_until_away: int | None = None
        self.num_groups = 0
        self.tasks_seen: list[str | None] = []
        self.app = FastAPI()
        self.app.get("/readyz")(self._readyz)
        self.app.get("/v1/info")(self._info)
        self.app.post("/v1/score")(self._score)

    async def _readyz(self, response: Response) -> dict[str, object]:
        if self.ready:
            return {"ready": True}
        response.status_code = 503
        return Problem(title="not ready", status=503, detail="the model is still loading", code="loading").model_dump()

    async def _info(self) -> ServiceInfo:
        return ServiceInfo(
            api_version="1",
            model="color-judge",
            engine="numpy",
            ready=True,
            versions={},
            limits=Limits(
                max_body_bytes=2**26,
                max_image_bytes=2**25,
                max_image_pixels=2**24,
                max_candidates=64,
                max_sources=4,
                max_text_chars=4096,
            ),
            methods=("score_logit",),
            tasks=("default",),
        )

    async def _score(
        self,
        response: Response,
        source: Annotated[list[UploadFile], File()],  # noqa: ARG002 - the form requires it
        candidates: Annotated[list[UploadFile], File()],
        instruction: Annotated[str, Form()],  # noqa: ARG002
        task: Annotated[str | None, Form()] = None,
    ) -> dict[str, object]:
        if self.refuse:
            response.status_code = 422
            return Problem(title="refused", status=422, detail="instruction is not wanted", code="refused").model_dump()
        if self.away or self.num_groups == self.groups_until_away:
            response.status_code = 503
            return Problem(title="away", status=503, detail="gone to lunch", code="away").model_dump()
        failing = self.failing | self.failing_groups.get(self.num_groups, frozenset())
        self.num_groups += 1
        self.tasks_seen.append(task)
        results = [_result(index, await upload.read(), failing) for index, upload in enumerate(candidates)]
        return ScoreResponse(
            id="0",
            model="color-judge",
            method="score_logit",
            results=tuple(results),
            timing_ms=Timing(queue=0.0, engine=0.0, total=0.0),
        ).model_dump()


def _result(index: int, data: bytes, failing: frozenset[int]) -> CandidateResult:
    if index in failing:
        return CandidateError(
            index=index, error=ErrorBody(code="unparsable_answer", message=f"candidate {index}: no score in there")
        )
    score = redness(np.asarray(images.decode(data), np.float64))
    return CandidateScore(index=index, score=score, raw_score=5 * score)


def redness(pixels: np.ndarray) -> float:
    """How much the red channel exceeds the other two, in [0, 1], scaled so that random edits differ clearly."""
    red, green, blue = pixels.reshape(-1, 3).mean(0) / 255
    return float(1 / (1 + np.exp(-20 * (red - (green + blue) / 2))))


@contextmanager
def serving(judge: ColorJudge) -> Iterator[str]:
    """Run the judge on a free port; yields its URL."""
    with serving_app(judge.app) as url:
        yield url
