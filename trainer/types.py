"""The values that travel along the walk of one training step, one type an arrow.

    tasks -> rollout -> score -> advantage -> filter -> objective -> update
    EditTask  RolloutGroup  ScoredGroup  rewards_P_G  KeepMask  TrainBatch

Frozen; every field says its shape and what None means. Nothing here computes, and importing this imports no torch.
Legend: P groups of an epoch (over all processes), G candidates a group, N samples of one process, [...] one latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edit_r1.trainer.mathematics.sizes import Layout, layout_of

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from edit_r1.trainer.models.base import Conditioning


@dataclass(frozen=True)
class EditTask:
    """One line of a task list: a source image (or several) and what to do with it."""

    id: str
    """Digest of source paths, instruction and requirement: equal tasks, equal id, whatever the order of the list."""
    instruction: str
    source_paths: tuple[Path, ...]
    requirement: str | None
    """Text that replaces the judge's task prompt; None leaves the choice to `task`."""
    task: str | None
    """Task type, such as `remove`; None when the list does not say."""
    metadata: Mapping[str, Any]
    """Anything else of the line, for evaluation metrics; empty when there is none."""


@dataclass(frozen=True)
class TaskGroup:
    """A task's place in an epoch. Its (epoch, index) seeds its candidates' noise, on whatever process they run."""

    epoch: int
    index: int
    """Position among the P groups of the epoch, over all processes."""
    task: EditTask


@dataclass(frozen=True)
class RolloutGroup:
    """G candidate edits of one task by the old policy."""

    group: TaskGroup
    sources: tuple[Image.Image, ...]
    """The source images at the size the editor saw them; the candidates have the size of the first."""
    candidates: tuple[Image.Image, ...]
    """G edited images."""
    x0: Tensor
    """[G, ...] float32, the candidates' clean latents."""
    conditioning: Conditioning
    """One row: what the editor was conditioned on."""
    sigmas: Tensor
    """The grid it was generated on, float64 [steps + 1], falling to 0."""
    path: Tensor | None = None
    """[steps + 1, G, ...] float32, all points from noise to x0, where the algorithm learns from them."""

    @property
    def layout(self) -> Layout:
        """What has to agree for groups to share a batch."""
        return layout_of(self.sources)


@dataclass(frozen=True)
class Rewards:
    """What the reward service said of one group of G candidates."""

    values: tuple[float | None, ...]
    """G times, in [0, 1]; None where the score is missing, which is not 0."""
    failures: tuple[str, ...]
    """One sentence for each missing score."""
    parts: tuple[Mapping[str, float], ...]
    """G times the sub-scores by name, of methods that have them; empty where missing."""
    masses: tuple[float | None, ...]
    """G times the judge's probability of all score tokens together; None where the method has none."""


@dataclass(frozen=True)
class ScoredGroup:
    """A rollout and its rewards."""

    rollout: RolloutGroup
    rewards: Rewards


@dataclass(frozen=True)
class TrainBatch:
    """The kept samples of one epoch on one process."""

    rollouts: tuple[RolloutGroup, ...]
    """This process's groups, kept or not."""
    places: tuple[tuple[int, int], ...]
    """N times (position in `rollouts`, candidate)."""
    worth: Tensor
    """[N] float32: optimality, rho in [0, 1], for DiffusionNFT; the clipped advantage for Flow-GRPO."""
    optimizer_step: Tensor
    """[N] int64, which of the epoch's optimizer steps the sample belongs to."""
    unit: Tensor
    """[N] int64; a micro-batch holds samples of one unit and one layout only, so it is the same on any number of
    processes."""
    num_samples_per_step: tuple[int, ...]
    """Samples of each optimizer step over *all* processes: what the loss is a mean over."""
