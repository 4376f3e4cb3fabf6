"""Chat through vLLM's own serving layer on top of the engine that scores, with vLLM's schema, answers and streams.

Images are passed decoded, with the same digests as in score requests; headers (priority, rank) never reach vLLM.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from edit_r1.reward_service.compat.openai_body import ChatRefusal, ChatRequest
from edit_r1.reward_service.engines.vllm import VllmEngine
from edit_r1.reward_service.problems import ProblemError, engine_unavailable
from edit_r1.reward_service.types import JudgeImage
from edit_r1.shared.errors import EngineDiedError

_CODES = {404: "model_not_found", 429: "queue_full"}


class VllmChat:
    """See `ChatServer` for the meaning of the methods."""

    def __init__(self, engine: VllmEngine, name: str) -> None:
        # Heavy imports, needed only here.
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest  # noqa: PLC0415
        from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat  # noqa: PLC0415
        from vllm.entrypoints.openai.models.protocol import BaseModelPath  # noqa: PLC0415
        from vllm.entrypoints.openai.models.serving import OpenAIServingModels  # noqa: PLC0415
        from vllm.renderers.online_renderer import OnlineRenderer  # noqa: PLC0415

        common: dict[str, Any] = {
            "request_logger": None,
            "chat_template": None,  # the checkpoint's own
            "chat_template_content_format": "auto",
        }
        llm = engine.llm
        self._parse = ChatCompletionRequest.model_validate
        self._models = OpenAIServingModels(llm, [BaseModelPath(name, name)])
        self._models.lora_requests.update(engine.loras)
        renderer = OnlineRenderer(llm.model_config, llm.renderer, **common)
        self._chat = OpenAIServingChat(llm, self._models, "assistant", online_renderer=renderer, **common)

    async def models(self) -> dict[str, Any]:
        """The judge and its adapters."""
        listed: dict[str, Any] = (await self._models.show_available_models()).model_dump()
        for one in listed["data"]:
            one["root"] = one["id"]  # instead of a local path
        return listed

    async def answer(self, request: ChatRequest, _request_id: str) -> dict[str, Any] | AsyncIterator[str]:
        """A chat completion, or its server-sent events."""
        from vllm.entrypoints.serve import create_error_response  # noqa: PLC0415
        from vllm.entrypoints.serve.engine.protocol import ErrorResponse  # noqa: PLC0415
        from vllm.exceptions import GenerationError  # noqa: PLC0415
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError  # noqa: PLC0415

        try:
            found = await self._chat.create_chat_completion(self._parse(_wire(request)))
        except EngineDeadError as error:
            raise engine_unavailable(EngineDiedError("vLLM's engine process has died")) from error
        except (EngineGenerateError, GenerationError) as error:
            raise ProblemError(503, "engine_error", f"the engine failed: {error!r}") from error
        except Exception as error:
            # vLLM's handlers tell client errors from server errors by exception type; do the same here.
            found = create_error_response(error)
            if found.error.code == 500:
                raise
        if isinstance(found, ErrorResponse):
            told = found.error
            if told.code >= 500:
                raise ProblemError(503, "engine_error", told.message)
            raise ChatRefusal(told.code, _CODES.get(told.code, "invalid_request"), told.message, told.param)
        if isinstance(found, AsyncIterator):
            return found
        completion: dict[str, Any] = found.model_dump()
        return completion


def _wire(request: ChatRequest) -> dict[str, Any]:
    asked = {name: value for name, value in request.asked.items() if name != "max_tokens"}  # the deprecated name
    turns = [{"role": one.role, "content": [_part(part) for part in one.content]} for one in request.messages]
    return {**asked, "messages": turns, "max_completion_tokens": request.max_tokens}


def _part(part: str | JudgeImage) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image_pil", "image_pil": part.pixels, "uuid": part.digest}
