"""Scores one group: decode images -> build messages -> generate -> parse -> normalise.

Takes an `EditGroup` and returns a `ScoreResponse`. Errors that concern the whole group raise a `ProblemError`; errors
that concern one candidate become an error at its position, never a score.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from statistics import fmean

from edit_r1.reward_service.engines.base import Engine
from edit_r1.reward_service.mathematics.expectation import normalise
from edit_r1.reward_service.methods import composite
from edit_r1.reward_service.methods.base import GroupMethod, Method, MethodTraits
from edit_r1.reward_service.problems import ProblemError, engine_unavailable
from edit_r1.reward_service.scoring.answering import thoughts_end
from edit_r1.reward_service.scoring.group_scores import Outcome, score_group
from edit_r1.reward_service.scoring.measuring import EditOrError, Measuring
from edit_r1.reward_service.scoring.principles import Principles
from edit_r1.reward_service.scoring.prompt import prompt_response
from edit_r1.reward_service.scoring.self_ensemble import PassOptions, Scored, score_edit
from edit_r1.reward_service.types import Brief, Edit, JudgeImage, Principle
from edit_r1.shared.errors import EngineUnavailableError, ImageError, JudgeError
from edit_r1.shared.images import ImageLimits, content_hash, decode
from edit_r1.shared.schemas import (
    DEFAULT_TASK,
    CandidateError,
    CandidateResult,
    CandidateScore,
    EditGroup,
    ErrorBody,
    PromptResponse,
    ScoreResponse,
    Timing,
    task_key,
)

_SOURCE_ERROR_STATUS = {"invalid_image": 422, "unsupported_image_type": 415, "image_too_large": 413}


@dataclass(frozen=True)
class ScorerOptions:
    """The settings that concern the scorer."""

    model_name: str
    """The judge's name in responses."""
    image_limits: ImageLimits
    max_reasoning_tokens: int | None
    """Maximum number of tokens per answer in methods that reason."""
    min_score_mass: float
    """Score mass below which a score is flagged."""
    max_thinking_tokens: int = 0
    """Additional tokens per written answer, for the judge's thoughts."""
    max_in_engine: int = 64
    """Maximum number of candidates in the engine at once; the others wait their turn."""


AnyMethod = Method | GroupMethod
_Principles = tuple[Principle, ...] | JudgeError


class Scorer:
    """Scores groups with one loaded judge.

    Attributes:
        begins_thinking: whether the judge's prompts end where it begins to think.

    """

    def __init__(
        self,
        engine: Engine,
        methods: Mapping[str, AnyMethod],
        task_prompts: Mapping[str, str],
        principles: Principles,
        options: ScorerOptions,
    ) -> None:
        self._engine = engine
        self._methods = methods
        self._task_prompts = task_prompts
        self._principles = principles
        self._options = options
        # First in, first out, so that a group stays together: an engine given everything at once prepares images long
        # before they are needed, and its caches lose the source that a group shares (BENCHMARKS.md).
        self._turns = asyncio.Semaphore(options.max_in_engine)
        self._control_tokens = engine.chat.control_tokens
        self.begins_thinking = thoughts_end(engine) is not None
        self._measuring = Measuring(one for one in methods.values() if isinstance(one, Method))
        self._decoders = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")

    def close(self) -> None:
        """Shut down the threads after their current images."""
        self._decoders.shutdown(wait=False)
        self._measuring.close()

    async def score(self, group: EditGroup, request_id: str) -> ScoreResponse:
        """Score every candidate of a group.

        Raises:
            ProblemError: the group as a whole cannot be scored.

        """
        started = time.perf_counter()
        method = self._method(group)
        brief = await self._brief(group, method)
        candidates = await self._decode_all(group.candidates)
        decoded = time.perf_counter()
        outcomes = await self._outcomes(method, group, brief, candidates)
        _raise_if_unavailable(outcomes)
        ended = time.perf_counter()
        waits = [outcome.queue_seconds for outcome in outcomes if isinstance(outcome, Scored)]
        timing = Timing(
            decode=1e3 * (decoded - started),
            queue=1e3 * fmean(waits or [0.0]),
            engine=1e3 * (ended - decoded),
            total=1e3 * (ended - started),
        )
        results = tuple(self._result(i, outcome, method, group) for i, outcome in enumerate(outcomes))
        return ScoreResponse(
            id=request_id, model=self._options.model_name, method=method.name, results=results, timing_ms=timing
        )

    async def prompt(self, group: EditGroup) -> PromptResponse:
        """The questions that the judge would be asked about candidate 0, compared with candidate 1 if it compares.

        Raises ProblemError, also if an image is unreadable or the judge cannot write the principles.
        """
        method = self._method(group)
        brief = await self._brief(group, method)
        edits = [Edit(brief, image) for image in await self._readable(group.candidates[: 1 + method.relative])]
        if not method.asks_judge:
            raise ProblemError(
                422, "no_prompt", f"method {method.name!r} measures the images; the judge gets no prompt"
            )
        if isinstance(method, GroupMethod):
            asked = [one.question for one in method.ask(edits, group.seed)]
        else:
            principles = await self._principles_of(method, group, brief)
            if isinstance(principles, JudgeError):
                raise ProblemError(422, principles.code, f"principles: {principles}")
            asked = list(method.ask(replace(edits[0], principles=principles)))
        return prompt_response(self._engine.chat, self._options.model_name, method.name, asked, edits)

    async def _outcomes(
        self, method: AnyMethod, group: EditGroup, brief: Brief, candidates: Sequence[JudgeImage | ImageError]
    ) -> Sequence[Outcome]:
        """One outcome per candidate: each on its own, or compared with the others."""
        if isinstance(method, GroupMethod):
            return await score_group(self._engine, method, brief, candidates, seed=group.seed, turns=self._turns)
        principles = await self._principles_of(method, group, brief)
        edits = await self._measuring.measured(method, [_edit(brief, one, principles) for one in candidates])
        return await asyncio.gather(*(self._score_one(method, group, edit) for edit in edits))

    async def _score_one(self, method: Method, group: EditGroup, edit: EditOrError) -> Outcome:
        """One candidate's score, or the reason it has none."""
        if not isinstance(edit, Edit):
            return edit
        options = PassOptions(
            group.num_passes,
            group.seed,
            group.temperature,
            self._options.max_reasoning_tokens,
            self._options.max_thinking_tokens,
        )
        arrived = time.perf_counter()
        async with self._turns if method.asks_judge else nullcontext():
            waited = time.perf_counter() - arrived
            try:
                scored = await score_edit(self._engine, method, edit, options)
            except JudgeError as error:
                return error
        return replace(scored, queue_seconds=scored.queue_seconds + waited)

    async def _principles_of(self, method: Method, group: EditGroup, brief: Brief) -> _Principles:
        """The principles to check: the client's own, else the service's; empty for methods without principles."""
        if not method.needs_principles:
            return ()
        if group.principles is not None:
            return tuple(Principle(one.question, one.category, one.weight) for one in group.principles)
        try:
            return await self._principles.of(brief)
        except EngineUnavailableError as error:
            raise engine_unavailable(error) from error
        except JudgeError as error:
            return error

    def _result(self, index: int, outcome: Outcome, method: AnyMethod, group: EditGroup) -> CandidateResult:
        if not isinstance(outcome, Scored):
            return CandidateError(index=index, error=_error_body(index, outcome))
        score = outcome.score
        parts = {"parts": score.parts} if score.parts else {}
        details = {**score.details, **parts, "answer_tokens": outcome.answer_tokens}
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

    def _method(self, group: EditGroup) -> AnyMethod:
        method = self._methods.get(group.method)
        if method is None:
            raise ProblemError(422, "unknown_method", f"method {group.method!r}; known: {', '.join(self._methods)}")
        if group.composite is not None:
            method = self._composite(group)
        refused = self.why_not(method)
        if refused is not None:
            raise refused
        if method.relative and len(group.candidates) == 1:
            detail = f"candidates: {method.name} compares the candidates of a group and needs at least 2; found 1"
            raise ProblemError(422, "too_few_candidates", detail)
        if not method.sampled and group.temperature is not None:
            raise ProblemError(422, "invalid_field", f"temperature: {method.name} does not sample")
        temperature = method.temperature if group.temperature is None else group.temperature
        if group.num_passes > 1 and temperature == 0:
            detail = f"num_passes: {group.num_passes} passes of {method.name} would give the same result"
            hint = "; set a temperature" if method.sampled else ""
            raise ProblemError(422, "invalid_field", detail + hint)
        return method

    def why_not(self, method: MethodTraits) -> ProblemError | None:
        """Why this judge cannot serve a method; None if it can."""
        if method.asks_judge and self._engine.name == "none":
            served = ", ".join(name for name, one in self._methods.items() if not one.asks_judge)
            detail = f"method {method.name!r} asks a judge, and this service has none (engine none)"
            return ProblemError(422, "unsupported_method", f"{detail}; without a judge: {served}")
        if method.reads_first_token and self.begins_thinking:
            detail = first_token_is_a_thought(self._methods)
            return ProblemError(422, "thinking_judge", f"method {method.name}: {detail}")
        if method.reads_labels and not self._engine.can_read_labels:
            readable = ", ".join(name for name, one in self._methods.items() if not one.reads_labels)
            detail = f"method {method.name!r} needs log-probabilities, which the judge's API does not return"
            return ProblemError(422, "unsupported_method", f"{detail}; without them: {readable}")
        if method.begins_answers and not self._engine.can_continue:
            detail = f"method {method.name!r} begins the judge's answer for it, which the judge's API does not allow"
            return ProblemError(422, "unsupported_method", f"{detail}; use score_logit_direct or yes_no_logit_direct")
        return None

    def _composite(self, group: EditGroup) -> Method:
        """The method built from the request's own recipe."""
        if group.method != composite.NAME or group.composite is None:
            raise ProblemError(422, "invalid_field", f"composite: the method is {group.method}, which takes no recipe")
        alone = {name: one for name, one in self._methods.items() if isinstance(one, Method)}
        unknown = composite.unknown_component(group.composite, alone)
        if unknown:
            raise ProblemError(422, "unknown_component", f"composite: {unknown}")
        return composite.compose(group.composite, alone)

    async def _brief(self, group: EditGroup, method: AnyMethod) -> Brief:
        """The group's brief, with its source images decoded and its requirement chosen."""
        self._refuse_control_tokens(group)
        task = task_key(group.task or DEFAULT_TASK)
        if group.requirement is None and task not in self._task_prompts and method.asks_judge:
            detail = f"task {group.task!r}; known: {', '.join(sorted(self._task_prompts))}"
            raise ProblemError(422, "unknown_task", f"{detail} (or send a requirement of your own)")
        requirement = self._task_prompts.get(task, "None") if group.requirement is None else group.requirement
        sources = await self._sources(group)
        mask = await self._mask(group, sources[0])
        return Brief(group.instruction, requirement, task, sources, mask, group.expected_text)

    def _refuse_control_tokens(self, group: EditGroup) -> None:
        questions = {f"principles.{i}": one.question for i, one in enumerate(group.principles or ())}
        texts = {"instruction": group.instruction, "requirement": group.requirement or "", **questions}
        for name, text in texts.items():
            found = [token for token in self._control_tokens if token in text]
            if found:
                raise ProblemError(422, "invalid_field", f"{name}: contains the judge's control token {found[0]}")

    async def _sources(self, group: EditGroup) -> tuple[JudgeImage, ...]:
        decoded = await self._decode_all(group.sources)
        for index, image in enumerate(decoded):
            if isinstance(image, ImageError):
                raise _image_problem(f"source {index}", image)
        return tuple(image for image in decoded if isinstance(image, JudgeImage))

    async def _readable(self, encoded: Sequence[bytes]) -> list[JudgeImage]:
        """Decoded candidates. Raises ProblemError for the first unreadable one."""
        found = await self._decode_all(encoded)
        for index, image in enumerate(found):
            if isinstance(image, ImageError):
                raise _image_problem(f"candidate {index}", image)
        return [image for image in found if isinstance(image, JudgeImage)]

    async def _mask(self, group: EditGroup, source: JudgeImage) -> JudgeImage | None:
        """The decoded mask, which must be as large as the first source."""
        if group.mask is None:
            return None
        (mask,) = await self._decode_all([group.mask])
        if isinstance(mask, ImageError):
            raise _image_problem("mask", mask)
        if mask.pixels.size != source.pixels.size:
            found, expected = ("x".join(map(str, one.pixels.size)) for one in (mask, source))
            raise ProblemError(422, "invalid_field", f"mask: {found}; it must be as large as source 0: {expected}")
        return mask

    async def _decode_all(self, encoded: Sequence[bytes]) -> list[JudgeImage | ImageError]:
        """Decode off the event loop; an unreadable image is returned as its error."""
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            *(loop.run_in_executor(self._decoders, _decode_one, data, self._options.image_limits) for data in encoded)
        )


def _edit(brief: Brief, candidate: JudgeImage | ImageError, principles: _Principles) -> EditOrError:
    if isinstance(candidate, ImageError):
        return candidate
    return principles if isinstance(principles, JudgeError) else Edit(brief, candidate, principles)


def first_token_is_a_thought(methods: Mapping[str, AnyMethod]) -> str:
    """A message for methods that read the first token of a judge that begins with its thoughts."""
    others = [method.name for method in methods.values() if not method.reads_first_token]
    return (
        "the judge's prompt ends where it begins to think, so its first token is no score; switch thinking off, for "
        f"many judges with --chat-template-kwargs '{{\"enable_thinking\": false}}', or use {', '.join(others)}"
    )


def _raise_if_unavailable(outcomes: Sequence[Outcome]) -> None:
    """Raise 503 for the whole group if the engine answers nothing at present: it may be scored later, or elsewhere."""
    for outcome in outcomes:
        if isinstance(outcome, EngineUnavailableError):
            raise engine_unavailable(outcome)


def _decode_one(data: bytes, limits: ImageLimits) -> JudgeImage | ImageError:
    try:
        return JudgeImage(decode(data, limits), content_hash(data))
    except ImageError as error:
        return error


def _image_problem(which: str, error: ImageError) -> ProblemError:
    return ProblemError(_SOURCE_ERROR_STATUS[error.code], error.code, f"{which}: {error}")


def _error_body(index: int, error: ImageError | JudgeError) -> ErrorBody:
    return ErrorBody(code=error.code, message=f"candidate {index}: {error}")
