"""The section `reward` of a configuration: which services and methods a run's reward comes from."""

from __future__ import annotations

import os

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from edit_r1.shared.config import ConfigModel
from edit_r1.shared.connections.api_keys import clean_key
from edit_r1.shared.fields import Names
from edit_r1.shared.images import Codec
from edit_r1.shared.schemas import DEFAULT_METHOD, CompositeRecipe

API_KEY_VARIABLE = "REWARD_API_KEY"
_TAKEN_NAMES = frozenset({"group", "reward", "second"})
"""Metrics `reward/NAME_mean` or `reward/NAME_std` of these names mean something else."""


class RewardTerm(ConfigModel):
    """One of several rewards: a service, a method and a weight."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)
    """Name in metrics and messages, such as `ocr`: lower-case letters, digits and underscores."""
    method: str
    """Scoring method, one of those listed by the service's GET /v1/methods."""
    url: Names | None = Field(default=None, min_length=1)
    """Base URL of the term's reward service, or those of its replicas; None uses `reward.url`."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Weight relative to the other terms, in the reward and in the advantage."""
    num_passes: PositiveInt = 1
    """Number of sampled answers averaged per candidate, for sampling methods."""
    composite: CompositeRecipe | None = Field(default=None, discriminator="rule")
    """Recipe of the method `composite`; None uses the service's own."""
    api_key_variable: str | None = None
    """Environment variable with the bearer token of the term's service; None uses `reward.api_key`."""

    @field_validator("name")
    @classmethod
    def _no_name_of_another_metric(cls, value: str) -> str:
        if value in _TAKEN_NAMES:
            raise ValueError(f"must not be one of {', '.join(sorted(_TAKEN_NAMES))}, which other metrics have")
        return value


class RewardConfig(ConfigModel):
    """The reward service and how it is called."""

    url: Names = ("http://127.0.0.1:8000",)
    """Base URL of the reward service; for several replicas a list, or a pattern such as `http://node{01..09}:8000`."""
    method: str = DEFAULT_METHOD
    """Scoring method, one of those listed by the service's GET /v1/methods."""
    composite: CompositeRecipe | None = Field(default=None, discriminator="rule")
    """Recipe of the method `composite`; None uses the service's own."""
    terms: tuple[RewardTerm, ...] | None = None
    """Several rewards, each with its own service, method and weight, in place of `method`, `num_passes` and
    `composite`: the reward is their weighted mean, and each is normalised separately. None: a single reward."""
    codec: Codec = "raw"
    """Image encoding for requests, lossless either way: `raw` is large and fast, `webp` halves the bytes for 9 ms per
    image."""
    api_key: str | None = Field(default=None, exclude=True, repr=False)
    """Bearer token of the service; None reads the variable REWARD_API_KEY. Never written to the run directory."""
    num_passes: PositiveInt = 1
    """Number of sampled answers averaged per candidate, for sampling methods."""
    wait_seconds: NonNegativeFloat = 600.0
    """Seconds to wait at start-up for the service to become ready."""
    timeout_seconds: PositiveFloat = 300.0
    """Timeout of a single attempt of a request, in seconds."""
    deadline_seconds: PositiveFloat = 1800.0
    """Seconds an epoch waits for its rewards, once its rollouts are done, while the service is unreachable, busy or
    restarting; after that the run writes a checkpoint and stops."""
    max_missing_fraction: float = Field(default=0.5, ge=0, lt=1)
    """Stop the run when the service responds but more than this fraction of an epoch's scores is missing."""
    max_in_flight: PositiveInt = 16
    """Maximum number of groups in flight per process."""

    @field_validator("api_key", mode="before")
    @classmethod
    def _clean_key(cls, value: object) -> object:
        if value is None:
            return _key_from_environment()
        return clean_key(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_terms(self) -> RewardConfig:
        if self.terms is None:
            return self
        names = [term.name for term in self.terms]
        if not names:
            raise ValueError("terms = [] must hold at least one reward; leave it out for a single reward")
        if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ValueError(f"terms: the name {repeated[0]!r} is given {names.count(repeated[0])} times")
        for key in ("method", "num_passes", "composite"):
            value = getattr(self, key)
            if value != type(self).model_fields[key].default:
                raise ValueError(f"{key} = {value!r} must be left out with reward.terms: set it in each term instead")
        return self


def _key_from_environment() -> str | None:
    try:
        return clean_key(os.environ.get(API_KEY_VARIABLE, "")) or None
    except ValueError as error:
        raise ValueError(f"the variable {API_KEY_VARIABLE}: {error}") from None
