"""An OpenAI-style chat endpoint over real HTTP with the habits of one provider.

    provider = Provider(GPT);  with serving(provider.app) as url: ...

Habits are those of public APIs: which parameters they refuse and in which words, which fields they return.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

KNOWN = frozenset(
    {"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "logprobs"}
    | {"top_logprobs"}
)


@dataclass(frozen=True)
class Habits:
    """What a provider accepts and returns."""

    refused: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Parameter -> error of the 400 it gets."""
    unknown: Callable[[str], Any] | None = None
    """Name of an unknown field -> body of the 400; None: such fields are ignored."""
    most_top: int = 20
    """Maximum `top_logprobs`; 0: no log-probabilities are returned."""
    message: Callable[[str], dict[str, Any]] = lambda text: {"content": text}
    finish_reason: str = "stop"
    thinking_tokens: int = 0
    """Hidden tokens that are spent before the answer, out of the limit."""
    thoughts: tuple[str, ...] = ()
    """Tokens of the thinking that precede the answer's in `logprobs`."""
    continues: bool = False
    """Whether `continue_final_message` is honoured."""


def _openai(name: str, code: str, words: str) -> dict[str, Any]:
    return {"error": {"message": words, "type": "invalid_request_error", "param": name, "code": code}}


_NOT_MAX_TOKENS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)
_NOT_TEMPERATURE = (
    "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported."
)
GPT = Habits(unknown=lambda name: _openai(name, "unknown_parameter", f"Unknown parameter: '{name}'."))
REASONING = Habits(
    refused={
        "max_tokens": _openai("max_tokens", "unsupported_parameter", _NOT_MAX_TOKENS),
        "temperature": _openai("temperature", "unsupported_value", _NOT_TEMPERATURE),
        "logprobs": _openai("logprobs", "unsupported_parameter", "Unsupported parameter: 'logprobs'."),
    },
    unknown=GPT.unknown,
    most_top=0,
    thinking_tokens=100,
)
GEMINI = Habits(
    unknown=lambda name: [
        {"error": {"code": 400, "message": f'Unknown name "{name}": Cannot find field.', "status": "INVALID_ARGUMENT"}}
    ],
    refused={"seed": {"error": {"code": 400, "message": 'Unknown name "seed": Cannot find field.'}}},
)
SGLANG = Habits(continues=True)
OLD = Habits(
    refused={"max_completion_tokens": {"object": "error", "message": "extra fields: max_completion_tokens"}}, most_top=5
)


class Provider:
    """Records the bodies of its requests, except messages; `trouble` (status, body, headers) replaces answers."""

    def __init__(self, habits: Habits, says: Callable[[list[dict[str, Any]]], Any] = lambda _messages: "4") -> None:
        """says: messages -> the answer's text, or the probabilities of its first token."""
        self.habits, self._says = habits, says
        self.trouble: tuple[int, Any, dict[str, str]] | None = None
        self.troubled_after = 0
        self.bodies: list[dict[str, Any]] = []
        self.num_answers = 0
        self.app = FastAPI()
        self.app.get("/v1/models")(self._models)
        self.app.post("/v1/chat/completions")(self._complete)

    async def _models(self) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "some-model"}]})

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append({name: value for name, value in body.items() if name != "messages"})
        if self.trouble is not None and self.num_answers >= self.troubled_after:
            status, told, headers = self.trouble
            return JSONResponse(told, status, headers=headers)
        if (refusal := self._refusal(body)) is not None:
            return JSONResponse(refusal, 400)
        self.num_answers += 1
        # In a thread, so that `says` may run an event loop of its own.
        return JSONResponse(await asyncio.to_thread(self._completion, body))

    def _refusal(self, body: dict[str, Any]) -> Any:
        known = KNOWN | ({"continue_final_message", "add_generation_prompt"} if self.habits.continues else set())
        for name in body:
            if name in self.habits.refused:
                return self.habits.refused[name]
            if name not in known and self.habits.unknown is not None:
                return self.habits.unknown(name)
        if body.get("top_logprobs", 0) > self.habits.most_top > 0:
            return {"error": {"message": f"top_logprobs must be at most {self.habits.most_top}", "code": 400}}
        return None

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        found = self._says(body["messages"])
        chances = {found: 1.0} if isinstance(found, str) else found
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or 10_000
        text, reason = max(chances, key=lambda token: chances[token]), self.habits.finish_reason
        if limit <= self.habits.thinking_tokens:
            text, reason = "", "length"
        choice = {"index": 0, "message": {"role": "assistant", **self.habits.message(text)}, "finish_reason": reason}
        if body.get("logprobs") and self.habits.most_top:
            top = sorted(chances.items(), key=lambda one: -one[1])[: body["top_logprobs"]]
            listed = [{"token": token, "logprob": math.log(chance), "bytes": None} for token, chance in top]
            thoughts = [{"token": token, "logprob": -0.1, "top_logprobs": listed[1:]} for token in self.habits.thoughts]
            choice["logprobs"] = {"content": [*thoughts, {**listed[0], "top_logprobs": listed}]}
        details = {"reasoning_tokens": self.habits.thinking_tokens}
        usage = {
            "prompt_tokens": self._num_prompt_tokens(body),
            "completion_tokens": 1 + self.habits.thinking_tokens,
            "completion_tokens_details": details,
        }
        return {"object": "chat.completion", "model": "some-model-0001", "choices": [choice], "usage": usage}

    def _num_prompt_tokens(self, body: dict[str, Any]) -> int:
        opened = 0 if self.habits.continues and body.get("continue_final_message") else 4
        return len(str(body["messages"])) // 4 + opened
