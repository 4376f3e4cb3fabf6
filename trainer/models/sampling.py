"""True classifier-free guidance, how a family's pipeline does it, and the settings of published samples."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrueCfg:
    """True classifier-free guidance: sampling with a second, negative branch."""

    scale: float
    """Above 1; 1 would be no guidance."""
    negative_prompt: str


@dataclass(frozen=True)
class NegativeBranch:
    """How a family's pipeline does true classifier-free guidance."""

    prompt: str
    """The negative prompt unless another is configured."""
    keeps_norm: bool
    """Whether the guided velocity is rescaled to the positive branch's norm; see `trainer.mathematics.guidance`."""


@dataclass(frozen=True)
class PublishedSampling:
    """Settings with which a family's published benchmark samples were made."""

    steps: int
    """Euler steps."""
    guidance: float | None = None
    """Embedded guidance; None for transformers without it."""
    true_cfg: float | None = None
    """Scale of true classifier-free guidance; None without it."""
