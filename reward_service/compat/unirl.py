"""`POST /score`, `GET /rewards`, `GET /health`: UniRL's reward protocol, version 1. Its rewards are our methods."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from edit_r1.reward_service.compat.items import Item, score_items, sub_scores
from edit_r1.reward_service.web.authentication import ServiceDep, check_key
from edit_r1.reward_service.web.openapi import json_body
from edit_r1.shared.schemas import Base64Image, RequestModel

router = APIRouter()
_IDENTITY = ("request_id", "sample_id", "group_id", "source_rank", "policy_version", "idempotency_key")


class HistoryTurn(RequestModel):
    """A text with its image."""

    text: str = Field(description="The instruction.")
    image_b64: Base64Image = Field(repr=False, description="A source image, or the edited image in the last turn.")


class RewardItem(BaseModel):
    """One edit. Its identifiers (`sample_id`, ...) are returned unchanged; the service has no `scorer_version`."""

    model_config = ConfigDict(frozen=True, extra="allow")
    history: list[HistoryTurn] = Field(min_length=2, description="The source image(s), then the edited image.")
    required_rewards: list[str] = Field(min_length=1, max_length=16, description="Names of methods.")
    metadata: dict[str, Any] | None = Field(None, description="Only `requirement` is used.")

    def items(self) -> list[Item]:
        """The edit, once per reward."""
        *sources, edit = (turn.image_b64 for turn in self.history)
        said = {"instruction": self.history[0].text, "requirement": (self.metadata or {}).get("requirement")}
        return [Item(tuple(sources), edit, {**said, "method": name}) for name in self.required_rewards]


class UniRLRequest(RequestModel):
    """Request of UniRL's `RemoteRewardBackend`."""

    protocol_version: Literal["1"] = Field("1", description="The only supported version.")
    requests: list[RewardItem] = Field(description="The edits to score.")


class UniRLResponse(BaseModel):
    """Response that `RemoteRewardBackend` expects, in request order; rewards without a score are in `errors` only."""

    protocol_version: Literal["1"] = Field("1", description="The only supported version.")
    results: list[dict[str, dict[str, float]]] = Field(
        description="Reward -> `score` in [0, 1] and the method's parts."
    )
    errors: list[dict[str, str]] = Field(description="Reward -> why it has no score.")
    identities: list[dict[str, Any]] = Field(description="Identifiers of each edit, as sent in the request.")


@router.post("/score", openapi_extra=json_body(UniRLRequest), dependencies=[Depends(check_key)])
async def score(request: Request, service: ServiceDep) -> UniRLResponse:
    """Reward service for UniRL."""
    asked, flat = await score_items(request, service, lambda body: UniRLRequest.model_validate(body).requests)
    found = [dict(zip(one.required_rewards, outcomes, strict=True)) for one, outcomes in zip(asked, flat, strict=True)]
    return UniRLResponse(
        results=[{name: sub_scores(got) for name, got in one.items() if not isinstance(got, str)} for one in found],
        errors=[{name: got for name, got in one.items() if isinstance(got, str)} for one in found],
        identities=[{name: getattr(one, name, None) for name in _IDENTITY} for one in asked],
    )


@router.get("/rewards", dependencies=[Depends(check_key)])
async def rewards(service: ServiceDep) -> dict[str, list[str]]:
    """Names of the rewards."""
    return {"rewards": list(service.methods)}


@router.get("/health")
async def health(service: ServiceDep) -> dict[str, Any]:
    """200 when the service is ready to score; Flow-Factory's client calls it, too."""
    _ = service.scorer
    return {"status": "ok", "rewards": {name: [] for name in service.methods}}
