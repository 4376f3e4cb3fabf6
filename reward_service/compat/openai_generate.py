"""Chat through `generate` of engines other than vLLM: one answer, not streamed; unsupported fields are rejected."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from edit_r1.reward_service.compat.openai_body import ChatRefusal, ChatRequest, refused
from edit_r1.reward_service.engines.base import Engine
from edit_r1.reward_service.problems import engine_unavailable
from edit_r1.reward_service.types import SamplingSpec
from edit_r1.shared.errors import EngineError, EngineUnavailableError

_OFFERED = {"model", "user", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "seed"}
_DEFAULT_MAX_TOKENS = 1024


class EngineChat:
    """See `ChatServer` for the meaning of the methods."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._names = (name, *sorted(engine.adapters))

    async def models(self) -> dict[str, Any]:
        """The judge and its adapters."""
        cards = [{"id": name, "object": "model", "created": 0, "owned_by": "edit-r1"} for name in self._names]
        return {"object": "list", "data": cards}

    async def answer(self, request: ChatRequest, request_id: str) -> dict[str, Any] | AsyncIterator[str]:
        """A chat completion."""
        spec = self._spec(request)
        try:
            answer = await self._engine.generate(request.messages, spec)
        except EngineUnavailableError as error:
            raise engine_unavailable(error) from error
        except EngineError as error:
            raise ChatRefusal(400, error.code, str(error)) from error
        message = {"role": "assistant", "content": answer.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop" if answer.finished else "length"}
        return {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": spec.adapter or self._names[0],
            "choices": [choice],
        }

    def _spec(self, request: ChatRequest) -> SamplingSpec:
        defaults = type(request.fields).model_fields
        for name, value in request.asked.items():
            if name not in _OFFERED and value != defaults[name].default:
                raise refused(name, f"not supported by the engine {self._engine.name}; vllm supports it")
        fields = request.fields
        if fields.model and fields.model not in self._names:
            detail = f"model {fields.model!r} does not exist; available: {', '.join(self._names)}"
            raise ChatRefusal(404, "model_not_found", detail, "model")
        room = self._engine.max_model_len or _DEFAULT_MAX_TOKENS
        return SamplingSpec(
            max_tokens=request.max_tokens or min(_DEFAULT_MAX_TOKENS, room),
            temperature=1.0 if fields.temperature is None else fields.temperature,
            top_p=fields.top_p or 1.0,
            top_k=max(0, fields.top_k or 0),
            seed=secrets.randbits(62) if fields.seed is None else fields.seed,
            adapter=fields.model if fields.model in self._engine.adapters else None,
        )
