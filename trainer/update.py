"""The update: from kept samples to optimizer steps.

Enters: a TrainBatch of this process. Leaves: a changed policy and the step's loss terms.
Gradients are accumulated over all samples and timesteps of a step and summed over the processes; the loss is the mean
over the kept samples of the whole step, so micro-batch size and number of processes do not change it. Micro-batches do
not cross units (`trainer.data.share`): each is the same, to the last bit, on any number of processes.
Legend: R rows of a micro-batch, one (sample, timestep) each; K trained timesteps a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from trainer.flow import interpolate
from trainer.models.base import Conditioning, ModelFamily
from trainer.objectives.nft import NftTerms, Weighting, nft_loss
from trainer.policy import LoraPolicy
from trainer.processes import Processes
from trainer.seeding import generator
from trainer.types import TrainBatch

Layout = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class UpdateSettings:
    """Numbers of the update; see TrainConfig for their meaning."""

    nft_beta: float
    kl_weight: float
    weighting: Weighting
    adv_clip: float
    num_timesteps: int
    micro_batch_size: int
    max_grad_norm: float
    seed: int


@dataclass(frozen=True)
class UpdateResult:
    """Means over the kept samples and timesteps of an epoch, over all processes; NaN when no sample was kept."""

    loss: float
    policy: float
    kl: float
    positive: float
    negative: float
    grad_norm: float
    """Mean over the optimizer steps, before clipping."""
    num_steps: int
    """Optimizer steps taken: steps without a kept sample are left out."""


@dataclass(frozen=True)
class _Rows:
    """One micro-batch."""

    samples: Sequence[int]
    """R positions in the TrainBatch."""
    noise: Tensor
    """[R, ...]."""
    t: Tensor
    """[R]."""


def update(
    family: ModelFamily,
    policy: LoraPolicy,
    optimizer: Optimizer,
    batch: TrainBatch,
    *,
    settings: UpdateSettings,
    processes: Processes,
    on_step: Callable[[], None],
    on_rows: Callable[[int], None] = lambda _: None,
) -> UpdateResult:
    """Take one optimizer step for each entry of `batch.num_samples_per_step` that is not 0.

    batch: this process's samples; without any it still takes part in every sum.
    on_step: called after every optimizer step (the EMA follows there). on_rows: called with the number of rows done.
    """
    sums = torch.zeros(5, dtype=torch.float64)
    grad_norms = []
    for step, num_samples in enumerate(batch.num_samples_per_step):
        if num_samples == 0:
            continue
        optimizer.zero_grad(set_to_none=True)
        num_rows = num_samples * settings.num_timesteps
        micro_batches = _micro_batches(batch, step, settings)
        sums += _accumulate(family, policy, batch, micro_batches, num_rows=num_rows, settings=settings, on_rows=on_rows)
        processes.sum_gradients(policy.parameters())
        grad_norms.append(float(torch.nn.utils.clip_grad_norm_(policy.parameters(), settings.max_grad_norm)))
        optimizer.step()
        on_step()
    total_rows = sum(batch.num_samples_per_step) * settings.num_timesteps
    means = (processes.sum(sums) / total_rows).tolist() if total_rows else [float("nan")] * 5
    grad_norm = sum(grad_norms) / len(grad_norms) if grad_norms else float("nan")
    loss, policy_loss, kl, positive, negative = means
    return UpdateResult(loss, policy_loss, kl, positive, negative, grad_norm, len(grad_norms))


def _accumulate(
    family: ModelFamily,
    policy: LoraPolicy,
    batch: TrainBatch,
    micro_batches: Iterable[_Rows],
    *,
    num_rows: int,
    settings: UpdateSettings,
    on_rows: Callable[[int], None],
) -> Tensor:
    """Add this process's gradient of one step; returns sums over its rows of loss, policy, kl, L+, L-: float64 [5].

    num_rows: rows of the step over all processes, what the loss is a mean over.
    """
    sums = torch.zeros(5, dtype=torch.float64)
    for rows in micro_batches:
        terms = _terms(family, policy, batch, rows, settings)
        loss_R = terms.policy_B + settings.kl_weight * terms.kl_B
        torch.autograd.backward(loss_R.sum() / num_rows)
        parts = [loss_R, terms.policy_B, terms.kl_B, terms.positive_B, terms.negative_B]
        sums += torch.stack([part.detach().double().sum() for part in parts]).cpu()
        on_rows(len(loss_R))
    return sums


def _micro_batches(batch: TrainBatch, step: int, settings: UpdateSettings) -> Iterator[_Rows]:
    """All (sample, timestep) pairs of a step, unit by unit and layout by layout, at most `micro_batch_size` at once."""
    chosen = torch.nonzero(batch.optimizer_step == step).flatten().tolist()
    parts: dict[tuple[int, Layout], list[int]] = {}
    for sample in chosen:
        row, _ = batch.places[sample]
        parts.setdefault((int(batch.unit[sample]), batch.rollouts[row].layout), []).append(sample)
    for _, samples in sorted(parts.items()):
        pairs = [(sample, k) for sample in samples for k in range(settings.num_timesteps)]
        draws = {sample: draw_timesteps(batch, sample, settings) for sample in samples}
        for start in range(0, len(pairs), settings.micro_batch_size):
            yield _gather_rows(pairs[start : start + settings.micro_batch_size], draws, batch.optimality.device)


def draw_timesteps(batch: TrainBatch, sample: int, settings: UpdateSettings) -> tuple[Tensor, Tensor]:
    """A sample's K timesteps (its rollout's grid permuted, cut off) and fresh noise for each: t [K], noise [K, ...]."""
    row, candidate = batch.places[sample]
    rollout = batch.rollouts[row]
    timesteps = rollout.sigmas[:-1]
    source = generator(settings.seed, "update", rollout.group.epoch, rollout.group.index, candidate)
    chosen = torch.randperm(len(timesteps), generator=source)[: settings.num_timesteps]
    noise = torch.randn((settings.num_timesteps, *rollout.x0.shape[1:]), generator=source)
    return timesteps[chosen].float(), noise


def _gather_rows(
    pairs: Sequence[tuple[int, int]], draws: dict[int, tuple[Tensor, Tensor]], device: torch.device
) -> _Rows:
    return _Rows(
        samples=[sample for sample, _ in pairs],
        noise=torch.stack([draws[sample][1][k] for sample, k in pairs]).to(device),
        t=torch.stack([draws[sample][0][k] for sample, k in pairs]).to(device),
    )


def _terms(
    family: ModelFamily, policy: LoraPolicy, batch: TrainBatch, rows: _Rows, settings: UpdateSettings
) -> NftTerms:
    places = [batch.places[sample] for sample in rows.samples]
    x0 = torch.stack([batch.rollouts[row].x0[candidate] for row, candidate in places])
    x_t = interpolate(x0, rows.noise, rows.t)
    conditioning = Conditioning.concatenate([batch.rollouts[row].conditioning for row, _ in places])
    with policy.use("old"):
        v_old = family.velocity(x_t, rows.t, conditioning)
    v_ref = None
    if settings.kl_weight > 0:
        with policy.use("reference"):
            v_ref = family.velocity(x_t, rows.t, conditioning)
    v_theta = family.velocity(x_t, rows.t, conditioning)
    return nft_loss(
        v_theta,
        v_old,
        v_ref,
        x_t,
        x0,
        rows.t,
        batch.optimality[list(rows.samples)],
        nft_beta=settings.nft_beta,
        adv_clip=settings.adv_clip,
        weighting=settings.weighting,
    )
