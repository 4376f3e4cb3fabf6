"""`head.json`: how a checkpoint with a regression head is asked, and what its numbers mean."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edit_r1.shared.errors import ConfigError, fault_line

NAME = "head.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Dimension(_Part):
    """One number that the head gives about an edit."""

    prompt: str = Field(description="Text file beside head.json; `{instruction}` is filled in.")
    head: str = Field("rm_head", description="Prefix of the head's weights.")
    output: int = Field(0, ge=0, description="Which of the head's outputs is the value, or its mean.")
    log_sigma: int | None = Field(None, ge=0, description="Which output is the logarithm of its standard deviation.")


class Sigmoid(_Part):
    """1 / (1 + exp(-(x - center) / scale))."""

    kind: Literal["sigmoid"]
    center: float = 0.0
    scale: float = Field(1.0, gt=0)

    def __call__(self, value: float) -> float:
        """A raw value in [0, 1]."""
        return (1 + math.tanh((value - self.center) / self.scale / 2)) / 2


class Linear(_Part):
    """(x - min) / (max - min), clamped to [0, 1]."""

    kind: Literal["linear"]
    min: float
    max: float

    @model_validator(mode="after")
    def _ordered(self) -> Linear:
        if self.min >= self.max:
            raise ValueError(f"min {self.min:g} must be below max {self.max:g}")
        return self

    def __call__(self, value: float) -> float:
        """A raw value in [0, 1]."""
        return min(1.0, max(0.0, (value - self.min) / (self.max - self.min)))


class HeadFile(_Part):
    """The contents of head.json."""

    dimensions: dict[str, Dimension] = Field(min_length=1)
    combine: Literal["mean", "min"] = Field("mean", description="Several dimensions -> the score, before the map.")
    map: Annotated[Sigmoid | Linear, Field(discriminator="kind")]
    token: str | None = Field(None, description="Token in each prompt whose hidden state is read; null: the last one.")
    with_source: bool = Field(True, description="Whether the sources are shown before the candidate.")
    positions: Literal["multimodal", "sequential"] = Field(
        "multimodal", description="Rotary positions of image tokens: by row and column, or counted like text."
    )
    min_pixels: int | None = Field(None, ge=1, description="Images are scaled up to it; null: the processor's own.")
    max_pixels: int | None = Field(None, ge=1, description="Images are scaled down to it; null: the processor's own.")


def read_head_file(directory: Path) -> tuple[HeadFile, dict[str, str]]:
    """The file, and the prompt of each dimension. Raises ConfigError that lists every mistake."""
    path = directory / NAME
    try:
        found = HeadFile.model_validate_json(path.read_text(encoding="utf-8"))
        prompts = {name: _prompt(directory, found, one) for name, one in found.dimensions.items()}
    except OSError as error:
        raise ConfigError(f"reward_head: {error.filename or path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigError("\n".join([f"{path}:", *(f"  {fault_line(fault)}" for fault in error.errors())])) from error
    return found, prompts


def _prompt(directory: Path, head: HeadFile, dimension: Dimension) -> str:
    text = (directory / dimension.prompt).read_text(encoding="utf-8").removesuffix("\n")
    if text.count("{instruction}") != 1:
        raise ConfigError(f"{directory / dimension.prompt}: expected the placeholder {{instruction}} once")
    if head.token is not None and text.count(head.token) != 1:
        raise ConfigError(f"{directory / dimension.prompt}: expected the token {head.token} of head.json once")
    return text
