"""The values passed between the stages of one training step, one type per arrow.

    tasks -> rollout -> score -> filter -> advantage -> objective -> update
    EditTask  RolloutGroup  ScoredGroup  rewards_P_G  KeepMask  TrainBatch

All types are frozen; every field documents its shape and the meaning of None. This module contains no computation and
does not import torch.
Legend: P groups per epoch (over all processes), G candidates per group, N samples of one process, [...] one latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edit_r1.shared.sources import Source
from edit_r1.trainer.mathematics.sizes import Layout, layout_of

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from edit_r1.trainer.models.base import Conditioning


@dataclass(frozen=True)
class EditTask:
    """One task of a task list: one or more source images and an instruction."""

    id: str
    """Digest of sources, instruction and requirement; equal tasks have equal ids regardless of list order. A file
    counts by its name in the list, an embedded picture by its bytes."""
    instruction: str
    sources: tuple[Source, ...]
    requirement: str | None
    """Text that replaces the judge's task prompt; None leaves the choice to `task`."""
    task: str | None
    """Task type, such as `remove`; None when the list has none."""
    metadata: Mapping[str, Any]
    """Anything else that the list says, for evaluation metrics; empty when there are none."""


@dataclass(frozen=True)
class TaskGroup:
    """A task's place in an epoch. (epoch, index) seeds the candidates' noise, whichever process generates them."""

    epoch: int
    index: int
    """Position among the P groups of the epoch, over all processes."""
    task: EditTask


@dataclass(frozen=True)
class GroupPart:
    """The candidates of a group that one process generates and trains on: all G, or some of them."""

    group: TaskGroup
    candidates: range
    """Positions among the group's G candidates."""
    unit: int
    """Unit of work that it belongs to; parts of one unit are computed in the same batches (see `rollout.units`)."""


@dataclass(frozen=True)
class RolloutGroup:
    """Candidate edits of one task by the old policy: a whole group, or the part of it that one process generates.

    Here G is the number of candidates in the part.
    """

    part: GroupPart
    sources: tuple[Image.Image, ...]
    """The source images, resized as the editor saw them; the candidates have the size of the first."""
    candidates: tuple[Image.Image, ...]
    """G edited images."""
    x0: Tensor
    """[G, ...] float32, the candidates' clean latents."""
    conditioning: Conditioning
    """The editor's conditioning, one row."""
    sigmas: Tensor
    """The sigma grid used for generation, float64 [steps + 1], decreasing to 0."""
    path: Tensor | None = None
    """[steps + 1, G, ...] float32, all points from noise to x0; None unless the algorithm trains on them."""

    @property
    def group(self) -> TaskGroup:
        """The group that the candidates belong to."""
        return self.part.group

    @property
    def layout(self) -> Layout:
        """Groups must have the same layout to share a batch."""
        return layout_of(self.sources)


@dataclass(frozen=True)
class Rewards:
    """The reward service's result for the G candidates of one rollout."""

    values: tuple[float | None, ...]
    """G rewards in [0, 1]; None where the score is missing (which is not the same as 0)."""
    failures: tuple[str, ...]
    """One error message per missing score."""
    parts: tuple[Mapping[str, float], ...]
    """G mappings of sub-scores by name, for methods that have them; empty where missing."""
    masses: tuple[float | None, ...]
    """G score masses, each the judge's total probability of all score tokens; None where the method has none."""


@dataclass(frozen=True)
class ScoredGroup:
    """A rollout and its rewards."""

    rollout: RolloutGroup
    rewards: Rewards


@dataclass(frozen=True)
class TrainBatch:
    """The kept samples of one epoch on one process."""

    rollouts: tuple[RolloutGroup, ...]
    """This process's rollouts, kept or not."""
    places: tuple[tuple[int, int], ...]
    """N pairs (position in `rollouts`, position among that rollout's candidates)."""
    worth: Tensor
    """[N] float32: optimality, rho in [0, 1], for DiffusionNFT; the clipped advantage for Flow-GRPO."""
    optimizer_step: Tensor
    """[N] int64, the optimizer step of the epoch that the sample belongs to."""
    unit: Tensor
    """[N] int64; a micro-batch only holds samples of one unit and one layout, so micro-batches are the same for any
    number of processes."""
    num_samples_per_step: tuple[int, ...]
    """Samples per optimizer step over *all* processes, the denominator of the loss."""
