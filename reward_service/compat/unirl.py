"""`POST /score`, `GET /rewards`, `GET /health`: UniRL's reward service, protocol 1. Its rewards are our methods."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from edit_r1.reward_service.compat.items import Item, score_items, sub_scores
from edit_r1.reward_service.web.dependencies import ServiceDep, check_key
from edit_r1.reward_service.web.openapi import json_body
from edit_r1.shared.schemas import Base64Image, RequestModel

router = APIRouter()
_IDENTITY = ("request_id", "sample_id", "group_id", "source_rank", "policy_version", "idempotency_key")


class HistoryTurn(RequestModel):
    """A text and its image."""

    text: str = Field(description="The instruction.")
    image_b64: Base64Image = Field(repr=False, description="A source, or in the last turn the edit.")


class RewardItem(BaseModel):
    """One edit. What names it (`sample_id`, ...) is answered as it came; the service has no `scorer_version`."""

    model_config = ConfigDict(frozen=True, extra="allow")
    history: list[HistoryTurn] = Field(min_length=2, description="The source(s), then the edit.")
    required_rewards: list[str] = Field(min_length=1, max_length=16, description="Names of methods.")
    metadata: dict[str, Any] | None = Field(None, description="Of these, only `requirement` is used.")

    def items(self) -> list[Item]:
        """The edit, once for each reward."""
        *sources, edit = (turn.image_b64 for turn in self.history)
        said = {"instruction": self.history[0].text, "requirement": (self.metadata or {}).get("requirement")}
        return [Item(tuple(sources), edit, {**said, "method": name}) for name in self.required_rewards]


class UniRLRequest(RequestModel):
    """What UniRL's `RemoteRewardBackend` sends."""

    protocol_version: Literal["1"] = Field("1", description="The only one.")
    requests: list[RewardItem] = Field(description="The edits.")


class UniRLResponse(BaseModel):
    """What it reads, in the order of the requests; a reward without a score stands in `errors` alone."""

    protocol_version: Literal["1"] = Field("1", description="The only one.")
    results: list[dict[str, dict[str, float]]] = Field(
        description="Reward -> `score` in [0, 1] and the method's parts."
    )
    errors: list[dict[str, str]] = Field(description="Reward -> why it has no score.")
    identities: list[dict[str, Any]] = Field(description="What named each edit in the request.")


@router.post("/score", openapi_extra=json_body(UniRLRequest), dependencies=[Depends(check_key)])
async def score(request: Request, service: ServiceDep) -> UniRLResponse:
    """UniRL's reward service."""
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
    """200 when it scores; Flow-Factory's client asks it, too."""
    _ = service.scorer
    return {"status": "ok", "rewards": {name: [] for name in service.methods}}
