"""The update: from kept samples to optimizer steps.

Takes this process's TrainBatch, updates the policy and returns the loss terms.
Gradients are accumulated over all samples and timesteps of a step and summed over the processes; the loss is the mean
over the kept samples of the whole step, so micro-batch size and number of processes do not change it. Micro-batches do
not cross units (`mathematics.dealing`): each is bit-identical on any number of processes.
Legend: R rows of a micro-batch, one (sample, timestep) each; K trained timesteps per sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.machine.sharding import whole
from edit_r1.trainer.mathematics.sizes import Layout
from edit_r1.trainer.policy.base import Policy
from edit_r1.trainer.types import TrainBatch
from edit_r1.trainer.update.losses import Loss, Row


@dataclass(frozen=True)
class UpdateResult:
    """Result of an epoch's update, over all processes; NaN when no sample was kept."""

    terms: Mapping[str, float]
    """Metric name -> mean over the kept samples and timesteps."""
    grad_norm: float
    """Mean over the optimizer steps, before clipping."""
    num_steps: int
    """Optimizer steps taken; steps without a kept sample are skipped."""


def update(
    policy: Policy,
    optimizer: Optimizer,
    batch: TrainBatch,
    loss: Loss,
    *,
    micro_batch_size: int,
    max_grad_norm: float,
    processes: Processes,
    on_step: Callable[[], None],
    on_rows: Callable[[int], None] = lambda _: None,
) -> UpdateResult:
    """Take one optimizer step for each entry of `batch.num_samples_per_step` that is not 0.

    batch: this process's samples; a process without samples still takes part in every sum.
    micro_batch_size: maximum number of rows per forward and backward pass.
    on_step: called after every optimizer step (to update the EMA). on_rows: called with the number of rows done.
    Raises Stopped before the first optimizer step only; the weights are then unchanged.
    """
    sums = torch.zeros(len(loss.names), dtype=torch.float64)
    grad_norms: list[float] = []
    for step, num_samples in enumerate(batch.num_samples_per_step):
        if num_samples == 0:
            continue
        optimizer.zero_grad(set_to_none=True)
        # Gradients can be thrown away, weights that have changed cannot: after a step, the others follow.
        micro_batches = processes.in_step(
            _micro_batches(batch, step, loss, micro_batch_size), together=policy.sharded, may_stop=not grad_norms
        )
        sums += _accumulate(
            loss,
            micro_batches,
            num_rows=num_samples * loss.num_timesteps,
            company=lambda: loss.rows(batch.rollouts[0], 0, batch.worth.new_zeros(()))[:1],
            on_rows=on_rows,
        )
        if not policy.holds_shards:
            processes.sum_gradients(policy.parameters())
        grad_norms.append(float(whole(torch.nn.utils.clip_grad_norm_(policy.parameters(), max_grad_norm))))
        optimizer.step()
        on_step()
    total_rows = sum(batch.num_samples_per_step) * loss.num_timesteps
    means = (processes.sum(sums) / total_rows).tolist() if total_rows else [float("nan")] * len(loss.names)
    grad_norm = sum(grad_norms) / len(grad_norms) if grad_norms else float("nan")
    return UpdateResult(dict(zip(loss.names, means, strict=True)), grad_norm, len(grad_norms))


def _accumulate(
    loss: Loss,
    micro_batches: Iterable[Sequence[Row] | None],
    *,
    num_rows: int,
    company: Callable[[], Sequence[Row]],
    on_rows: Callable[[int], None],
) -> Tensor:
    """Accumulate this process's gradient of one step; returns sums of the terms over its rows, float64 [terms].

    num_rows: rows of the step over all processes, the denominator of the loss. company: dummy rows with weight 0, for
    turns (None) in which only other processes have rows.
    """
    sums = torch.zeros(len(loss.names), dtype=torch.float64)
    for rows in micro_batches:
        if rows is None:
            torch.autograd.backward(0.0 * loss.terms(company())[loss.names[0]].sum())
            continue
        terms = loss.terms(rows)
        torch.autograd.backward(terms[loss.names[0]].sum() / num_rows)
        sums += torch.stack([terms[name].detach().double().sum() for name in loss.names]).cpu()
        on_rows(len(rows))
    return sums


def _micro_batches(batch: TrainBatch, step: int, loss: Loss, size: int) -> Iterator[Sequence[Row]]:
    """All rows of a step in micro-batches of at most `size`, each within one unit and one layout."""
    parts: dict[tuple[int, Layout], list[int]] = {}
    for sample in torch.nonzero(batch.optimizer_step == step).flatten().tolist():
        row, _ = batch.places[sample]
        parts.setdefault((int(batch.unit[sample]), batch.rollouts[row].layout), []).append(sample)
    for _, samples in sorted(parts.items()):
        rows = [
            row
            for sample in samples
            for row in loss.rows(batch.rollouts[batch.places[sample][0]], batch.places[sample][1], batch.worth[sample])
        ]
        for start in range(0, len(rows), size):
            yield rows[start : start + size]
