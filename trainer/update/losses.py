"""The algorithms' interface to the update: the rows a sample is trained on, and each row's loss.

Takes rollouts and the worth of each sample; returns rows and, for a micro-batch of rows, loss terms with a gradient.
The policy's forward passes happen here; the formulas are pure functions in `trainer.mathematics.objectives`.
Legend: R rows of a micro-batch, one (sample, timestep) each; K timesteps per sample.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edit_r1.trainer.machine.seeding import generator
from edit_r1.trainer.mathematics.advantage import AdvantageMode, apply_mode, optimality
from edit_r1.trainer.mathematics.flow import interpolate
from edit_r1.trainer.mathematics.objectives.flow_grpo import grpo_loss, log_prob
from edit_r1.trainer.mathematics.objectives.nft import Weighting, nft_loss
from edit_r1.trainer.mathematics.solvers import StochasticStep, stochastic_step
from edit_r1.trainer.models.base import Conditioning, ModelFamily
from edit_r1.trainer.policy.base import Policy
from edit_r1.trainer.types import RolloutGroup


@dataclass(frozen=True)
class Row:
    """One sample at one timestep."""

    rollout: RolloutGroup
    candidate: int
    """Position among the rollout's candidates."""
    worth: Tensor
    """float32 []: optimality for DiffusionNFT, advantage for Flow-GRPO."""
    step: int
    """Index of the timestep in the rollout's grid."""
    noise: Tensor | None
    """[...] noise of the forward process; None when the rollout's own path is used."""


class Loss(ABC):
    """One algorithm."""

    names: ClassVar[tuple[str, ...]]
    """Metric names of the values that `terms` returns, the loss first."""
    num_timesteps: int
    """K, timesteps per sample."""
    noise_level: float | None = None
    """Noise level of the stochastic rollouts; None when rollouts solve the ODE."""
    on_policy: ClassVar[bool] = False
    """Whether the old policy is set to the current policy after every epoch."""

    @abstractmethod
    def worth(self, advantages_P_G: Tensor) -> Tensor:
        """Weight of each sample; argument and result are [P, G], NaN where the score is missing."""

    @abstractmethod
    def rows(self, rollout: RolloutGroup, candidate: int, worth: Tensor) -> list[Row]:
        """The K rows of a sample, drawn with its own seed. candidate: position among the rollout's candidates."""

    @abstractmethod
    def terms(self, rows: Sequence[Row]) -> Mapping[str, Tensor]:
        """Terms of R rows of one layout, [R] each; all except the loss are for logs only."""


class NftLoss(Loss):
    """DiffusionNFT: newly drawn points on the path to each sample; see `trainer.mathematics.objectives.nft`."""

    names = ("nft/loss", "nft/policy_loss", "nft/kl", "nft/positive_loss", "nft/negative_loss")

    def __init__(
        self,
        family: ModelFamily,
        policy: Policy,
        *,
        num_timesteps: int,
        nft_beta: float,
        kl_weight: float,
        weighting: Weighting,
        adv_clip: float,
        seed: int,
        mode: AdvantageMode = "all",
    ) -> None:
        self._family, self._policy = family, policy
        self.num_timesteps = num_timesteps
        self._nft_beta, self._kl_weight, self._weighting, self._adv_clip = nft_beta, kl_weight, weighting, adv_clip
        self._mode: AdvantageMode = mode
        self._seed = seed

    def worth(self, advantages_P_G: Tensor) -> Tensor:
        """Optimality, rho in [0, 1]."""
        return optimality(advantages_P_G, adv_clip=self._adv_clip, mode=self._mode)

    def rows(self, rollout: RolloutGroup, candidate: int, worth: Tensor) -> list[Row]:
        """The first K timesteps of the permuted rollout grid, each with fresh noise."""
        group, place = rollout.group, rollout.part.candidates[candidate]
        source = generator(self._seed, "update", group.epoch, group.index, place)
        steps = torch.randperm(len(rollout.sigmas) - 1, generator=source)[: self.num_timesteps].tolist()
        noise = torch.randn((self.num_timesteps, *rollout.x0.shape[1:]), generator=source)
        return [Row(rollout, candidate, worth, step, noise[k]) for k, step in enumerate(steps)]

    def terms(self, rows: Sequence[Row]) -> Mapping[str, Tensor]:
        """Forward passes of old policy, reference (if kl_weight > 0) and policy at the same points."""
        x0 = torch.stack([row.rollout.x0[row.candidate] for row in rows])
        t = torch.stack([row.rollout.sigmas[row.step] for row in rows]).float().to(x0.device)
        noise = torch.stack([_noise(row) for row in rows]).to(x0.device)
        x_t = interpolate(x0, noise, t)
        conditioning = _conditioning(rows)
        with self._policy.use("old"):
            v_old = self._family.velocity(x_t, t, conditioning)
        v_ref = None
        if self._kl_weight > 0:
            with self._policy.use("reference"):
                v_ref = self._family.velocity(x_t, t, conditioning)
        v_theta = self._family.velocity(x_t, t, conditioning)
        terms = nft_loss(
            v_theta,
            v_old,
            v_ref,
            x_t,
            x0,
            t,
            _worth(rows),
            nft_beta=self._nft_beta,
            adv_clip=self._adv_clip,
            weighting=self._weighting,
        )
        loss = terms.policy_B + self._kl_weight * terms.kl_B
        return dict(
            zip(self.names, (loss, terms.policy_B, terms.kl_B, terms.positive_B, terms.negative_B), strict=True)
        )


class GrpoLoss(Loss):
    """Flow-GRPO: the stochastic steps taken by the rollout; see `trainer.mathematics.objectives.flow_grpo`."""

    on_policy = True
    names = ("grpo/loss", "grpo/policy_loss", "grpo/kl", "grpo/ratio", "grpo/clipped_fraction")

    def __init__(
        self,
        family: ModelFamily,
        policy: Policy,
        *,
        num_timesteps: int,
        noise_level: float,
        clip_range: float,
        kl_weight: float,
        adv_clip: float,
        mode: AdvantageMode = "all",
    ) -> None:
        self._family, self._policy = family, policy
        self.num_timesteps = num_timesteps
        self.noise_level: float = noise_level
        self._clip_range, self._kl_weight = clip_range, kl_weight
        self._adv_clip = adv_clip
        self._mode: AdvantageMode = mode

    def worth(self, advantages_P_G: Tensor) -> Tensor:
        """Advantages, clipped to [-adv_clip, adv_clip]."""
        return apply_mode(advantages_P_G, self._mode).clamp(-self._adv_clip, self._adv_clip)

    def rows(self, rollout: RolloutGroup, candidate: int, worth: Tensor) -> list[Row]:
        """The first K steps of the path; its last one is not stochastic."""
        return [Row(rollout, candidate, worth, step, None) for step in range(self.num_timesteps)]

    def terms(self, rows: Sequence[Row]) -> Mapping[str, Tensor]:
        """Forward passes of old policy, reference (if kl_weight > 0) and policy at the points of the path."""
        conditioning = _conditioning(rows)
        x_next = torch.stack([_path(row)[row.step + 1, row.candidate] for row in rows])
        with self._policy.use("old"):
            old_log_prob = log_prob(x_next, self._step(rows, conditioning))
        reference = None
        if self._kl_weight > 0:
            with self._policy.use("reference"):
                reference = self._step(rows, conditioning)
        terms = grpo_loss(
            x_next,
            self._step(rows, conditioning),
            old_log_prob,
            reference,
            _worth(rows),
            clip_range=self._clip_range,
        )
        loss = terms.policy_B + self._kl_weight * terms.kl_B
        return dict(zip(self.names, (loss, terms.policy_B, terms.kl_B, terms.ratio_B, terms.clipped_B), strict=True))

    def _step(self, rows: Sequence[Row], conditioning: Conditioning) -> StochasticStep:
        x = torch.stack([_path(row)[row.step, row.candidate] for row in rows])
        here, following = (
            torch.stack([row.rollout.sigmas[row.step + later] for row in rows]).float().to(x.device) for later in (0, 1)
        )
        velocity = self._family.velocity(x, here, conditioning)
        largest = float(rows[0].rollout.sigmas[1])
        return stochastic_step(x, velocity, here, following, noise_level=self.noise_level, largest=largest)


def _noise(row: Row) -> Tensor:
    if row.noise is None:
        raise ValueError("DiffusionNFT needs rows with noise")
    return row.noise


def _path(row: Row) -> Tensor:
    if row.rollout.path is None:
        raise ValueError("Flow-GRPO needs rollouts with a path")
    return row.rollout.path


def _worth(rows: Sequence[Row]) -> Tensor:
    return torch.stack([row.worth for row in rows])


def _conditioning(rows: Sequence[Row]) -> Conditioning:
    return Conditioning.concatenate([row.rollout.conditioning for row in rows])
