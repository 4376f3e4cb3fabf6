"""The rewards of a run: which service and method each comes from, and how several make one. Does not import torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from edit_r1.shared.connections.api_keys import checked_key
from edit_r1.shared.errors import ConfigError
from edit_r1.shared.schemas import CompositeRecipe
from edit_r1.trainer.config import RewardConfig
from edit_r1.trainer.types import Rewards


@dataclass(frozen=True)
class Term:
    """One reward and where it comes from."""

    url: tuple[str, ...]
    """Base URLs of the service's replicas."""
    method: str
    name: str | None = None
    """None for a run's only reward."""
    weight: float = 1.0
    num_passes: int = 1
    composite: CompositeRecipe | None = None
    api_key: str | None = field(default=None, repr=False)
    key: str = "reward"
    """The configuration key that it comes from, for messages."""


def terms_of(reward: RewardConfig) -> tuple[Term, ...]:
    """The configured rewards, at least one. Raises ConfigError when the variable of a key is not set."""
    if reward.terms is None:
        return (
            Term(
                url=reward.url,
                method=reward.method,
                num_passes=reward.num_passes,
                composite=reward.composite,
                api_key=reward.api_key,
            ),
        )
    return tuple(
        Term(
            url=term.url or reward.url,
            method=term.method,
            name=term.name,
            weight=term.weight,
            num_passes=term.num_passes,
            composite=term.composite,
            api_key=reward.api_key
            if term.api_key_variable is None
            else _key(term.api_key_variable, f"reward.terms.{index}.api_key_variable"),
            key=f"reward.terms.{index}",
        )
        for index, term in enumerate(reward.terms)
    )


def combined(terms: Sequence[Term], rewards: Sequence[Rewards]) -> Rewards:
    """The rewards of several terms for the same candidates, as one: their weighted mean.

    A candidate that lacks one of them has no reward. `parts` holds the rewards that it has, by term, and its mass is
    the lowest of any term. A run's only reward is returned unchanged.
    """
    if len(terms) == 1 and terms[0].name is None:
        return rewards[0]
    rows = list(zip(*(one.values for one in rewards), strict=True))
    failures = [iter(one.failures) for one in rewards]
    return Rewards(
        values=tuple(_weighted_mean(terms, row) for row in rows),
        failures=tuple(_failure(terms, row, failures) for row in rows if None in row),
        parts=tuple(
            {str(term.name): value for term, value in zip(terms, row, strict=True) if value is not None} for row in rows
        ),
        masses=tuple(_lowest(row) for row in zip(*(one.masses for one in rewards), strict=True)),
    )


def _weighted_mean(terms: Sequence[Term], row: Sequence[float | None]) -> float | None:
    present = [term.weight * value for term, value in zip(terms, row, strict=True) if value is not None]
    return sum(present) / sum(term.weight for term in terms) if len(present) == len(terms) else None


def _failure(terms: Sequence[Term], row: Sequence[float | None], failures: Sequence[Iterator[str]]) -> str:
    """One message for a candidate that some terms gave no reward; takes the terms' next messages."""
    lacking = [
        f"{term.name}: {next(reasons)}"
        for term, value, reasons in zip(terms, row, failures, strict=True)
        if value is None
    ]
    return "; ".join(lacking)


def _lowest(masses: Sequence[float | None]) -> float | None:
    return min((mass for mass in masses if mass is not None), default=None)


def _key(variable: str, where: str) -> str:
    value = checked_key(os.environ.get(variable), f"{where}: the variable {variable}")
    if value is None:
        raise ConfigError(f"{where} = {variable!r}: the environment variable is not set")
    return value
