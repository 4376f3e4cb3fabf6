"""A reward server like those in research releases, on our engine: one chat call per candidate, sequentially, over JSON.

The engine is the same, with its caches and batching; only the way requests reach it differs.
"""

from __future__ import annotations

import asyncio
import base64
import io
import uuid

from fastapi import FastAPI
from PIL import Image
from pydantic import BaseModel

from edit_r1.reward_service.methods import METHODS
from edit_r1.reward_service.service import Service
from edit_r1.reward_service.types import Brief, Edit, JudgeImage
from edit_r1.shared.images import content_hash


class Body(BaseModel):
    """One candidate with its source."""

    instruction: str
    source: str
    candidate: str


def reference_app(service: Service, *, remembers: bool) -> FastAPI:
    """The application, to be mounted next to the service's; `remembers`: whether its engine may cache images."""
    app = FastAPI()
    one_at_a_time = asyncio.Lock()
    method = METHODS["score_logit"]

    @app.post("/score")
    async def score(body: Body) -> dict[str, float]:
        async with one_at_a_time:
            source, candidate = (_image(text, remembers) for text in (body.source, body.candidate))
            edit = Edit(Brief(body.instruction, "None", "default", (source,)), candidate)
            (question,) = method.ask(edit)
            assert service.engine is not None
            answer = await service.engine.generate(question.messages, question.spec)
            return {"score": method.read(edit, [answer]).raw_score / 5}

    return app


def _image(text: str, remembers: bool) -> JudgeImage:
    data = base64.b64decode(text)
    digest = content_hash(data) if remembers else uuid.uuid4().hex
    return JudgeImage(Image.open(io.BytesIO(data)).convert("RGB"), digest)
