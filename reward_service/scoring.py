"""The walk of one request: decode images -> build messages -> generate -> parse -> normalise.

An `EditGroup` enters, a `ScoreResponse` leaves. What concerns the whole group is refused with a `ProblemError`; what
concerns one candidate becomes an error at its position, never a score.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean

from reward_service.engines.base import Engine
from reward_service.expectation import normalise
from reward_service.methods import METHODS
from reward_service.methods.base import Method
from reward_service.methods.templates import task_key
from reward_service.passes import answer_to_the_end, average, plan_passes
from reward_service.problems import ProblemError
from reward_service.types import Edit, JudgeImage, Messages, Score
from shared.errors import ImageError, JudgeError
from shared.images import ImageLimits, content_hash, decode
from shared.schemas import (
    DEFAULT_TASK,
    CandidateError,
    CandidateResult,
    CandidateScore,
    EditGroup,
    ErrorBody,
    PromptMessage,
    PromptPart,
    PromptResponse,
    ScoreResponse,
    Timing,
)

_SOURCE_ERROR_STATUS = {"invalid_image": 422, "unsupported_image_type": 415, "image_too_large": 413}


@dataclass(frozen=True)
class ScorerOptions:
    """The scorer's share of the settings."""

    model_name: str
    image_limits: ImageLimits
    max_reasoning_tokens: int
    min_score_mass: float


@dataclass(frozen=True)
class _Scored:
    """A candidate's score and how long it waited for the engine."""

    score: Score
    queue_seconds: float


_Outcome = _Scored | ImageError | JudgeError


class Scorer:
    """Scores groups with one loaded judge."""

    def __init__(self, engine: Engine, task_prompts: Mapping[str, str], options: ScorerOptions) -> None:
        self._engine = engine
        self._task_prompts = task_prompts
        self._options = options
        self._control_tokens = engine.chat.control_tokens
        self._decoders = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")

    async def score(self, group: EditGroup, request_id: str) -> ScoreResponse:
        """Score every candidate of a group.

        Raises:
            ProblemError: the group as a whole cannot be scored.

        """
        started = time.perf_counter()
        method, requirement = self._method(group), self._requirement(group)
        sources = await self._sources(group)
        candidates = await self._decode_all(group.candidates)
        decoded = time.perf_counter()
        outcomes = await asyncio.gather(
            *(self._score_one(method, group, requirement, sources, candidate) for candidate in candidates)
        )
        ended = time.perf_counter()
        waits = [outcome.queue_seconds for outcome in outcomes if isinstance(outcome, _Scored)]
        timing = Timing(
            queue=1e3 * fmean(waits or [0.0]), engine=1e3 * (ended - decoded), total=1e3 * (ended - started)
        )
        results = tuple(self._result(i, outcome, method, group) for i, outcome in enumerate(outcomes))
        return ScoreResponse(
            id=request_id, model=self._options.model_name, method=method.name, results=results, timing_ms=timing
        )

    async def prompt(self, group: EditGroup) -> PromptResponse:
        """What the judge would be asked about candidate 0. Raises ProblemError, also when that image is unreadable."""
        method, requirement = self._method(group), self._requirement(group)
        sources = await self._sources(group)
        (candidate,) = await self._decode_all(group.candidates[:1])
        if isinstance(candidate, ImageError):
            raise _image_problem("candidate 0", candidate)
        messages = method.build_messages(Edit(group.instruction, requirement, sources, candidate))
        return PromptResponse(
            model=self._options.model_name,
            method=method.name,
            messages=_wire_messages(messages, len(sources)),
            text=self._engine.chat.text(messages),
        )

    async def _score_one(
        self,
        method: Method,
        group: EditGroup,
        requirement: str,
        sources: tuple[JudgeImage, ...],
        candidate: JudgeImage | ImageError,
    ) -> _Outcome:
        """One candidate's score, or the reason why it has none."""
        if isinstance(candidate, ImageError):
            return candidate
        messages = method.build_messages(Edit(group.instruction, requirement, sources, candidate))
        specs = plan_passes(method, group, candidate.digest, self._options.max_reasoning_tokens)
        try:
            answers = await asyncio.gather(*(answer_to_the_end(self._engine, messages, spec) for spec in specs))
            score = average([method.parse(answer) for answer in answers])
        except JudgeError as error:
            return error
        return _Scored(score, fmean(answer.queue_seconds for answer in answers))

    def _result(self, index: int, outcome: _Outcome, method: Method, group: EditGroup) -> CandidateResult:
        if not isinstance(outcome, _Scored):
            return CandidateError(index=index, error=_error_body(index, outcome))
        score = outcome.score
        details = dict(score.details)
        if score.score_mass is not None and score.score_mass < self._options.min_score_mass:
            details["low_score_mass"] = True
        return CandidateScore(
            index=index,
            score=normalise(score.raw_score, method.raw_score_min, method.raw_score_max),
            raw_score=score.raw_score,
            distribution=score.distribution,
            score_mass=score.score_mass,
            reasoning=score.reasoning if group.reasoning else None,
            details=details,
        )

    def _method(self, group: EditGroup) -> Method:
        method = METHODS.get(group.method)
        if method is None:
            raise ProblemError(422, "unknown_method", f"method {group.method!r}; known: {', '.join(METHODS)}")
        temperature = method.spec.temperature if group.temperature is None else group.temperature
        if not method.sampled and group.temperature is not None:
            raise ProblemError(422, "invalid_field", f"temperature: {method.name} does not sample")
        if group.num_passes > 1 and temperature == 0:
            detail = f"num_passes: {group.num_passes} passes of {method.name} would be the same; set a temperature"
            raise ProblemError(422, "invalid_field", detail if method.sampled else detail.partition(";")[0])
        return method

    def _requirement(self, group: EditGroup) -> str:
        """The task prompt: the client's own text, else that of the task."""
        for name in ("instruction", "requirement"):
            found = [token for token in self._control_tokens if token in (getattr(group, name) or "")]
            if found:
                detail = f"{name}: holds the judge's control token {found[0]}"
                raise ProblemError(422, "invalid_field", detail)
        if group.requirement is not None:
            return group.requirement
        task = task_key(group.task or DEFAULT_TASK)
        if task not in self._task_prompts:
            detail = f"task {group.task!r}; known: {', '.join(sorted(self._task_prompts))}"
            raise ProblemError(422, "unknown_task", f"{detail} (or send a requirement of your own)")
        return self._task_prompts[task]

    async def _sources(self, group: EditGroup) -> tuple[JudgeImage, ...]:
        decoded = await self._decode_all(group.sources)
        for index, image in enumerate(decoded):
            if isinstance(image, ImageError):
                raise _image_problem(f"source {index}", image)
        return tuple(image for image in decoded if isinstance(image, JudgeImage))

    async def _decode_all(self, encoded: Sequence[bytes]) -> list[JudgeImage | ImageError]:
        """Decode off the event loop; an unreadable image comes back as its error."""
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            *(loop.run_in_executor(self._decoders, _decode_one, data, self._options.image_limits) for data in encoded)
        )


def _decode_one(data: bytes, limits: ImageLimits) -> JudgeImage | ImageError:
    try:
        return JudgeImage(decode(data, limits), content_hash(data))
    except ImageError as error:
        return error


def _image_problem(which: str, error: ImageError) -> ProblemError:
    return ProblemError(_SOURCE_ERROR_STATUS[error.code], error.code, f"{which}: {error}")


def _error_body(index: int, error: ImageError | JudgeError) -> ErrorBody:
    return ErrorBody(code=error.code, message=f"candidate {index}: {error}")


def _wire_messages(messages: Messages, num_sources: int) -> tuple[PromptMessage, ...]:
    names = iter([*(f"source {i}" for i in range(num_sources)), "candidate 0"])

    def wire(part: str | JudgeImage) -> PromptPart:
        if isinstance(part, str):
            return PromptPart(type="text", text=part)
        return PromptPart(type="image", image=next(names))

    return tuple(PromptMessage(role=message.role, content=tuple(map(wire, message.content))) for message in messages)
