"""create_app(settings): the routes, a few lines each; the logic lives in other modules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles

from edit_r1.reward_service.compat import flow_factory, openai_api, unirl
from edit_r1.reward_service.problems import ProblemError, install_handlers
from edit_r1.reward_service.service import Service
from edit_r1.reward_service.settings import Settings
from edit_r1.reward_service.web import openapi
from edit_r1.reward_service.web.authentication import ServiceDep, check_key
from edit_r1.reward_service.web.batch_body import read_batch
from edit_r1.reward_service.web.body_limit import BodyLimit
from edit_r1.reward_service.web.deadlines import deadline, while_connected
from edit_r1.reward_service.web.group_body import read_group
from edit_r1.reward_service.web.group_scoring import score_groups
from edit_r1.reward_service.web.request_id import RequestId
from edit_r1.shared.schemas import (
    API_VERSION,
    MethodInfo,
    Problem,
    PromptResponse,
    ScoreResponse,
    ServiceInfo,
)

_PAGE = Path(__file__).parent / "web" / "page"
"""The web page's files. Gradio would be the usual choice, but mounted here it adds upload, file and queue routes
outside the API contract, which bypass key, limits and admission, and passes images through its own files."""
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
)
_PAGE_POLICY += "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application for one judge, which is loaded when the application starts.

    Raises:
        ConfigError: a directory in the settings is invalid.

    """
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="Edit-R1 reward service",
        version=API_VERSION,
        description="Scores image edits with a multimodal judge.",
        lifespan=lifespan,
        responses=openapi.problems(),
    )
    app.state.service = service
    app.include_router(_operation)
    app.include_router(_open)
    app.include_router(_scoring)
    for protocol in (openai_api, flow_factory, unirl):
        app.include_router(protocol.router)
    app.mount("/page", StaticFiles(directory=_PAGE))
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    install_handlers(app)
    app.add_middleware(BodyLimit, max_body_bytes=settings.max_body_bytes)
    app.add_middleware(RequestId)  # the last one added is the outermost
    return app


_open = APIRouter()
_operation = APIRouter(dependencies=[Depends(check_key)])
_scoring = APIRouter(prefix="/v1", dependencies=[Depends(check_key)])


@_scoring.post("/score", openapi_extra=openapi.score_body())
async def score(request: Request, service: ServiceDep) -> ScoreResponse:
    """Score one group: one source, one instruction, 1..N candidate edits."""
    scorer = service.scorer
    service.admission.check()
    async with deadline(service.settings.request_seconds):
        with service.metrics.timed("receive"):
            group = await read_group(request, service.settings.limits)
        async with while_connected(request):
            with service.admission.entered(len(group.candidates)):
                scores = await scorer.score(group, request.state.request_id)
    service.observe(scores)
    return scores


@_scoring.post("/score/batch", openapi_extra=openapi.batch_body())
async def score_batch(request: Request, service: ServiceDep) -> list[ScoreResponse | Problem]:
    """Score several groups; results are in request order, with a problem in place of each group that fails."""
    return await score_groups(request, service, read_batch)


@_scoring.post("/prompt", openapi_extra=openapi.score_body())
async def prompt(request: Request, service: ServiceDep) -> PromptResponse:
    """The exact prompt the judge would get for the first candidate, without scoring it."""
    return await service.scorer.prompt(await read_group(request, service.settings.limits))


@_scoring.get("/methods")
async def methods(service: ServiceDep) -> list[MethodInfo]:
    """The scoring methods."""
    return [
        MethodInfo(**{name: getattr(method, name) for name in MethodInfo.model_fields})
        for method in service.methods.values()
    ]


@_scoring.get("/info")
async def info(service: ServiceDep) -> ServiceInfo:
    """The judge, its engine, versions, limits, methods and tasks."""
    return service.info


@_operation.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: ServiceDep) -> Response:
    """Prometheus metrics."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


@_open.get("/healthz")
async def healthz(service: ServiceDep) -> dict[str, str]:
    """200 as long as the process can work."""
    if service.failure:
        raise ProblemError(503, "failed", service.failure)
    return {"status": "up"}


@_open.get("/readyz")
async def readyz(service: ServiceDep) -> dict[str, str]:
    """200 once the judge has loaded and passed its self-test; 503 with the reason before that and while draining."""
    _ = service.scorer
    service.admission.check_open()
    return {"status": "ready"}


@_open.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """The web page."""
    headers = {"Content-Security-Policy": _PAGE_POLICY, "Referrer-Policy": "no-referrer"}
    return FileResponse(_PAGE / "index.html", media_type="text/html", headers=headers)
