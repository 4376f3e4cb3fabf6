"""A small OpenAI-style endpoint over real HTTP that rates images by their redness, and fails on demand.

    judge = OpenAIJudge();  with serving(judge.app) as url: ...

It answers in the format that the prompt asks for. Words in the instruction trigger failures: `mumble` (prose without
scores), `filter` (a 400), `crash` (a 500), `page` (HTML with status 200), `decline` (a refusal inside an answer),
`overflow` (the token limit before any text).
"""

import asyncio
import base64
import re
import threading
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from PIL import Image

from edit_r1.shared.images import decode


class OpenAIJudge:
    """Records its requests. After `busy_after` of them it answers 503, after `broke_after` 402; each takes `seconds`;
    requires `key` if set."""

    def __init__(self, *, key: str | None = None, seconds: float = 0.0) -> None:
        self.key, self.seconds = key, seconds
        self.busy_after: int | None = None
        self.broke_after: int | None = None
        self.texts: list[str] = []
        self.sizes: list[list[tuple[int, int]]] = []
        self.bodies: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self.app = FastAPI()
        self.app.get("/v1/models")(self._models)
        self.app.post("/v1/chat/completions")(self._complete)

    async def _models(self, request: Request) -> Response:
        if self._stranger(request):
            return JSONResponse({"error": {"message": "wrong key"}}, 401)
        return JSONResponse({"object": "list", "data": [{"id": "red-judge"}]})

    async def _complete(self, request: Request) -> Response:
        if self._stranger(request):
            return JSONResponse({"error": {"message": "wrong key"}}, 401)
        body = await request.json()
        (message,) = body["messages"]
        text, *pictures = message["content"]
        images = [_picture(part["image_url"]["url"]) for part in pictures]
        with self._lock:
            if self.busy_after is not None and len(self.texts) >= self.busy_after:
                return JSONResponse({"error": {"message": "too busy"}}, 503)
            if self.broke_after is not None and len(self.texts) >= self.broke_after:
                return JSONResponse({"error": {"message": "Insufficient Balance"}}, 402)
            self.texts.append(text["text"])
            self.sizes.append([image.size for image in images])
            self.bodies.append({name: value for name, value in body.items() if name != "messages"})
        await asyncio.sleep(self.seconds)
        return _respond(text["text"], images[-1])

    def _stranger(self, request: Request) -> bool:
        return self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}"


def _respond(text: str, edited: Image.Image) -> Response:
    if " filter" in text:
        return JSONResponse({"error": {"message": "the content management policy says no"}}, 400)
    if " crash" in text:
        return JSONResponse({"error": {"message": "out of memory"}}, 500)
    if " page" in text:
        return HTMLResponse("<html>welcome</html>")
    message: dict[str, Any] = {"role": "assistant", "content": _rating(text, edited)}
    if " mumble" in text:
        message["content"] = "I like it, really. 5 stars!"
    if " overflow" in text:
        message["content"] = None
    if " decline" in text:
        message = {"role": "assistant", "content": None, "refusal": "I would rather not"}
    choice = {"index": 0, "message": message, "finish_reason": "length" if " overflow" in text else "stop"}
    usage = {"prompt_tokens": 200, "completion_tokens": 10}
    return JSONResponse({"object": "chat.completion", "model": "red-judge-0001", "choices": [choice], "usage": usage})


def _rating(text: str, edited: Image.Image) -> str:
    red = float(np.asarray(edited, np.float64)[..., 0].mean()) / 255
    if "JSON" in text:
        return f'```json\n{{"score": [{round(10 * red, 1)}, 9], "reasoning": "it is "so" red"}}\n```'
    names = re.findall(r"^(.+): <number from 1 to 5>$", text, re.MULTILINE)
    first = 1 + round(4 * red)
    scores = zip(names, (first, first, max(1, first - 1)), strict=False)
    return "\n".join(["Brief reasoning: red.", *(f"{name}: {score}" for name, score in scores)])


def _picture(url: str) -> Image.Image:
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    return decode(base64.b64decode(data))
