"""RFC 9457 problem details: the format of every error response, and the handlers that turn all errors into it."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from edit_r1.shared.errors import EditR1Error, EngineUnavailableError, fault_line
from edit_r1.shared.schemas import Problem

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
_JUDGING_PATHS = ("/v1/score", "/v1/chat", "/compute", "/score")


_PASSING = (429, 503)
"""Transient statuses, sent with `Retry-After`."""
_ENGINE_RETRY_SECONDS = 5


class ProblemError(EditR1Error):
    """An error response for the client; transient ones have a `Retry-After` header."""

    def __init__(self, status: int, code: str, detail: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail)
        self.problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, code=code)
        self.headers = {"Retry-After": str(retry_after_seconds)} if status in _PASSING else {}


def too_large(what: str, found: str, limit: str) -> ProblemError:
    """413 that names the limit and its value."""
    return ProblemError(413, "too_large", f"{what}: {found}; the limit is {limit}")


def validation_problem(faults: Sequence[Any]) -> ProblemError:
    """422 that lists every invalid field of a pydantic validation."""
    return ProblemError(422, "invalid_field", "; ".join(map(fault_line, faults)))


def engine_unavailable(error: EngineUnavailableError) -> ProblemError:
    """503 if the engine answers nothing at present. If it died, another replica may answer while this one exits."""
    return ProblemError(503, error.code, str(error), retry_after_seconds=_ENGINE_RETRY_SECONDS)


def install_handlers(app: FastAPI) -> None:
    """Answer every error with a problem document."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(Exception, _on_bug)


def problem_response(error: ProblemError) -> Response:
    """The response for one error."""
    body = error.problem.model_dump_json()
    return Response(body, error.problem.status, media_type=MEDIA_TYPE, headers=error.headers)


def count_refusal(request: Request, error: ProblemError) -> None:
    """Count and log a rejected request to the judge."""
    if request.url.path.startswith(_JUDGING_PATHS):
        request.app.state.service.metrics.refusals.labels(error.problem.code).inc()
        log.info("refused", status=error.problem.status, code=error.problem.code, detail=error.problem.detail)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)  # noqa: S101 - registered for this type
    count_refusal(request, error)
    return problem_response(error)


async def _on_http_exception(_request: Request, error: Exception) -> Response:
    """Errors raised by the framework itself: unknown path, wrong method, unreadable form."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    response = problem_response(ProblemError(error.status_code, code, str(error.detail)))
    response.headers.update(error.headers or {})
    return response


async def _on_validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type
    return problem_response(validation_problem(error.errors()))


async def _on_bug(request: Request, error: Exception) -> Response:
    log.error("bug", path=request.url.path, exc_info=error)
    return problem_response(ProblemError(500, "internal_error", "internal error; see the service's log for details"))
