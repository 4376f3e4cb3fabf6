"""`POST /compute`: Flow-Factory's remote reward. Takes lists of equal length and returns one reward per item.

The source is in `condition_images`, the instruction in `prompt`; `kwargs` takes options of `/v1/score`. An item without
a score is null, never 0. The client reads `error` before `rewards` and fails if it is set.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field, model_validator

from edit_r1.reward_service.compat.items import Item, score_items
from edit_r1.reward_service.web.authentication import ServiceDep, check_key
from edit_r1.reward_service.web.openapi import json_body
from edit_r1.shared.schemas import Base64Image, Base64Images, RequestModel

router = APIRouter(dependencies=[Depends(check_key)])


class ComputeRequest(RequestModel):
    """Request of Flow-Factory's `RemoteRewardClient`."""

    prompt: list[str] = Field(min_length=1, description="One instruction per item.")
    image: list[Base64Image] = Field(repr=False, description="Edited images, base64.")
    condition_images: list[Base64Images] = Field(repr=False, description="Source image(s) of each edit.")
    video: None = Field(None, description="Not scored.")
    condition_videos: None = Field(None, description="Not scored.")
    kwargs: dict[str, Any] | None = Field(
        None, description="Options of /v1/score: method, task, requirement, seed, ..."
    )

    @model_validator(mode="after")
    def _check_lengths(self) -> ComputeRequest:
        lengths = {name: len(getattr(self, name)) for name in ("prompt", "image", "condition_images")}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"lists of different lengths: {lengths}")
        return self

    def items(self) -> list[Item]:
        """The edits."""
        rows = zip(self.condition_images, self.image, self.prompt, strict=True)
        options = self.kwargs or {}
        return [Item(sources, image, {**options, "instruction": prompt}) for sources, image, prompt in rows]


class ComputeResponse(BaseModel):
    """Response that `RemoteRewardClient` expects."""

    rewards: list[float | None] = Field(description="In [0, 1], in item order; null: no score.")
    error: str | None = Field(None, description="Why items have no score.")


@router.post("/compute", openapi_extra=json_body(ComputeRequest))
async def compute(request: Request, service: ServiceDep) -> ComputeResponse:
    """Remote reward for Flow-Factory."""
    _, (outcomes,) = await score_items(request, service, lambda body: [ComputeRequest.model_validate(body)])
    faults = [f"item {i}: {found}" for i, found in enumerate(outcomes) if isinstance(found, str)]
    rewards = [None if isinstance(found, str) else found.score for found in outcomes]
    return ComputeResponse(rewards=rewards, error="; ".join(faults) or None)
