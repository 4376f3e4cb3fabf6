"""`/v1/chat/completions` and `/v1/models`: direct chat with the judge, for evaluation scripts that use OpenAI's API.

Shares key, limits, queue and draining with `/v1/score`; errors have the format that OpenAI's clients expect.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack
from typing import Any, Protocol

import structlog
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from edit_r1.reward_service.compat.openai_body import ChatLimits, ChatRefusal, ChatRequest, read_chat
from edit_r1.reward_service.compat.openai_generate import EngineChat
from edit_r1.reward_service.engines.base import Engine
from edit_r1.reward_service.problems import ProblemError, count_refusal
from edit_r1.reward_service.service import Service
from edit_r1.reward_service.settings import Settings
from edit_r1.reward_service.web.authentication import ServiceDep, check_key
from edit_r1.reward_service.web.deadlines import deadline, while_connected
from edit_r1.reward_service.web.group_body import read_json, require_json

log = structlog.get_logger(__name__)

_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class ChatServer(Protocol):
    """Answers chat requests with an engine."""

    async def models(self) -> dict[str, Any]:
        """OpenAI's list of models: the judge and its adapters."""
        ...

    async def answer(self, request: ChatRequest, request_id: str) -> dict[str, Any] | AsyncIterator[str]:
        """A chat completion, or its server-sent events if streamed.

        Raises:
            ProblemError: the request cannot be answered.

        """
        ...


def error_object(error: ProblemError) -> dict[str, Any]:
    """The error in the format of OpenAI's API."""
    status = error.problem.status
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    field = error.field if isinstance(error, ChatRefusal) else None
    return {"error": {"message": error.problem.detail, "type": kind, "param": field, "code": error.problem.code}}


class _OpenAIRoute(APIRoute):
    """Returns errors as OpenAI's error object."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_or_refuse(request: Request) -> Response:
            try:
                return await handle(request)
            except ProblemError as error:
                count_refusal(request, error)
                return JSONResponse(error_object(error), error.problem.status, headers=error.headers)

        return handle_or_refuse


# Not in our OpenAPI document: the schema belongs to OpenAI and vLLM.
router = APIRouter(prefix="/v1", dependencies=[Depends(check_key)], route_class=_OpenAIRoute, include_in_schema=False)


@router.get("/models")
async def models(request: Request, service: ServiceDep) -> Response:
    """The names of the judge and its adapters."""
    return JSONResponse(await (await _chat_server(request, service)).models())


@router.post("/chat/completions")
async def chat_completions(request: Request, service: ServiceDep) -> Response:
    """The judge's reply to a conversation."""
    server = await _chat_server(request, service)
    service.admission.check()
    with ExitStack() as place:
        async with deadline(service.settings.request_seconds):
            with service.metrics.timed("receive"):
                require_json(request)
                body = await read_json(request)
                asked = await asyncio.to_thread(read_chat, body, _limits(service))
            async with while_connected(request):
                place.enter_context(service.admission.entered(asked.fields.n))
                with service.metrics.timed("chat"):
                    answer = await server.answer(asked, request.state.request_id)
        service.metrics.chats.inc(asked.fields.n)
        log.info("chatted", id=request.state.request_id, answers=asked.fields.n, streams=asked.fields.stream)
        if isinstance(answer, dict):
            return JSONResponse(answer)
        return _Stream(_until(answer, service.settings.request_seconds), place.pop_all())


class _Stream(StreamingResponse):
    """Server-sent events that keep their place in the queue until the last one is sent."""

    def __init__(self, events: AsyncIterator[str], place: ExitStack) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place:
            await super().__call__(scope, receive, send)


async def _until(events: AsyncIterator[str], limit_seconds: float) -> AsyncIterator[str]:
    """The same events, ended by an error event after the limit: the HTTP status has already been sent."""
    try:
        async with deadline(limit_seconds):
            async for event in events:
                yield event
    except ProblemError as error:
        yield f"data: {json.dumps(error_object(error))}\n\n"
        yield "data: [DONE]\n\n"


async def _chat_server(request: Request, service: Service) -> ChatServer:
    """The chat server, built on first use so that scoring never waits for it. Raises ProblemError 503 until ready."""
    _ = service.scorer
    state = request.app.state
    if getattr(state, "chat_server", None) is None:
        assert service.engine is not None  # noqa: S101 - there is a scorer
        state.chat_server = await asyncio.to_thread(_build, service.engine, service.settings)
    server: ChatServer = state.chat_server
    return server


def _build(engine: Engine, settings: Settings) -> ChatServer:
    if engine.name != "vllm":
        return EngineChat(engine, settings.display_name)
    from edit_r1.reward_service.compat.openai_vllm import VllmChat  # noqa: PLC0415 - vLLM is imported only when used
    from edit_r1.reward_service.engines.vllm import VllmEngine  # noqa: PLC0415

    assert isinstance(engine, VllmEngine)  # noqa: S101 - by its name
    return VllmChat(engine, settings.display_name)


def _limits(service: Service) -> ChatLimits:
    settings, engine = service.settings, service.engine
    assert engine is not None  # noqa: S101 - there is a scorer
    return ChatLimits(
        images=settings.image_limits,
        max_images=settings.max_sources + 1,
        max_text_chars=settings.max_text_chars,
        max_answers=settings.max_candidates,
        max_model_len=engine.max_model_len,
        control_tokens=engine.chat.control_tokens,
    )
