"""Shared by the tests of other projects' protocols: edits, how they are sent, and their scores from /v1/score."""

import asyncio
import base64
import io
from typing import Any

import httpx

from tests.support.serving import picture, png

KEY = "sesame"
INSTRUCTION = "make the circle blue"
EDITS = [(number % 3, 100 + number) for number in range(9)]
"""(source, candidate) seeds of images."""


def b64(seed: int, codec: str = "PNG") -> str:
    """An image as the clients encode it."""
    buffer = io.BytesIO()
    picture(seed).save(buffer, codec)
    return base64.b64encode(buffer.getvalue()).decode()


def conversation(source: int, candidate: int, text: str = "Rate the edit.") -> list[Any]:
    """A message with text and data URLs, as ImgEdit's and GEdit's scripts send it."""
    shown = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(seed)}"}}
        for seed in (source, candidate)
    ]
    return [{"role": "user", "content": [{"type": "text", "text": text}, *shown]}]


def headers(key: str | None = KEY) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def scores(url: str, method: str = "score_logit", key: str | None = None) -> list[float]:
    """Scores of EDITS from /v1/score, one group per edit, all requested concurrently."""

    async def ask() -> list[float]:
        async with httpx.AsyncClient(base_url=url, headers=headers(key), timeout=60) as http:
            return await asyncio.gather(*(one(http, *edit) for edit in EDITS))

    async def one(http: httpx.AsyncClient, source: int, candidate: int) -> float:
        files = {"source": png(source), "candidates": png(candidate)}
        answer = await http.post("/v1/score", data={"instruction": INSTRUCTION, "method": method}, files=files)
        return float(answer.json()["results"][0]["score"])

    return asyncio.run(ask())
