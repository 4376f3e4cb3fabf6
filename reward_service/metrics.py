"""The metrics served at GET /metrics in Prometheus' text format; one registry per service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from edit_r1.shared.schemas import CandidateError, ScoreResponse

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TENTHS = tuple(i / 10 for i in range(1, 11))


class Metrics:
    """The service's own metrics, exposed together with its engine's."""

    def __init__(self, engine_metrics: Callable[[], Iterable[Metric]]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_EngineCollector(engine_metrics))
        counter = partial(Counter, namespace="reward", registry=self.registry)
        histogram = partial(Histogram, namespace="reward", registry=self.registry)
        self.candidates = counter("candidates", "Candidates answered.", ["method", "outcome"])
        self.chats = counter("chats", "Answers written for chat requests.")
        self.refusals = counter("refusals", "Scoring and chat requests rejected.", ["code"])
        self.seconds = histogram("request_seconds", "Time of a scoring request by stage.", ["stage"], buckets=_SECONDS)
        self.scores = histogram("score", "Scores in [0, 1].", ["method"], buckets=_TENTHS)
        self.mass = histogram("score_mass", "Probability of the label tokens.", ["method"], buckets=_TENTHS)
        self.low_mass = counter("low_score_mass", "Scores whose score mass is below the limit.", ["method"])
        self.in_flight = Gauge(
            "candidates_in_flight", "Candidates being scored.", namespace="reward", registry=self.registry
        )

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Observe how long a stage takes, even if it fails."""
        with self.seconds.labels(stage).time():
            yield

    def observe(self, response: ScoreResponse) -> None:
        """Count one scored group."""
        for stage, milliseconds in response.timing_ms:
            self.seconds.labels(stage).observe(milliseconds / 1e3)
        for result in response.results:
            if isinstance(result, CandidateError):
                self.candidates.labels(response.method, result.error.code).inc()
                continue
            self.candidates.labels(response.method, "ok").inc()
            self.scores.labels(response.method).observe(result.score)
            if result.score_mass is not None:
                self.mass.labels(response.method).observe(result.score_mass)
            if result.details.get("low_score_mass"):
                self.low_mass.labels(response.method).inc()

    def text(self) -> bytes:
        """All metrics in the text format."""
        return generate_latest(self.registry)


class _EngineCollector(Collector):
    """The engine's own metrics, read on each scrape."""

    def __init__(self, engine_metrics: Callable[[], Iterable[Metric]]) -> None:
        self._engine_metrics = engine_metrics

    def collect(self) -> Iterable[Metric]:
        """The current metrics."""
        return self._engine_metrics()
