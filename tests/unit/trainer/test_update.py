import signal
from dataclasses import replace

import pytest
import torch
from PIL import Image

from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.machine.stopping import Stopped, StopSignals
from edit_r1.trainer.mathematics.flow import interpolate
from edit_r1.trainer.mathematics.objectives.nft import nft_loss
from edit_r1.trainer.models.base import LoadOptions
from edit_r1.trainer.models.flux_kontext import FluxKontext
from edit_r1.trainer.policy.lora import LoraPolicy
from edit_r1.trainer.types import EditTask, GroupPart, RolloutGroup, TaskGroup, TrainBatch
from edit_r1.trainer.update.losses import NftLoss
from edit_r1.trainer.update.update import update
from tests.support.tiny_editor import build_tiny_editor

NUM_SAMPLES = 5
NUM_TIMESTEPS = 3


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    return build_tiny_editor(tmp_path_factory.mktemp("editor"))


class Parts:
    """A policy that differs from its old copy, and a batch of five samples from two groups."""

    def __init__(self, editor, units=(0, 0, 0, 1, 1)):
        options = LoadOptions(guidance=2.5, device=torch.device("cpu"))
        self.family = FluxKontext.load(str(editor), options)
        self.policy = LoraPolicy(self.family.transformer, rank=4, alpha=8, targets=self.family.lora_targets, seed=0)
        source = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in self.policy.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=source), alpha=0.1)
        # Two groups of different sizes, so that no batch can contain both.
        sizes = [(32, 32), (48, 32)]
        self.rollouts = tuple(self.rollout(index, size) for index, size in enumerate(sizes))
        self.batch = TrainBatch(
            rollouts=self.rollouts,
            places=((0, 0), (0, 1), (0, 3), (1, 0), (1, 2)),
            worth=torch.tensor([0.1, 0.9, 0.5, 0.7, 0.2]),
            optimizer_step=torch.zeros(NUM_SAMPLES, dtype=torch.int64),
            unit=torch.tensor(units),
            num_samples_per_step=(NUM_SAMPLES,),
        )

    def rollout(self, index, size):
        source = Image.new("RGB", size, ("red", "navy")[index])
        task = EditTask(str(index), ("make it red", "remove it")[index], (), None, None, {})
        return RolloutGroup(
            part=GroupPart(TaskGroup(1, index, task), range(4), unit=index),
            sources=(source,),
            candidates=(source,) * 4,
            x0=self.family.initial_noise([torch.Generator().manual_seed(4 * index + i) for i in range(4)], size),
            conditioning=self.family.encode([task.instruction], [[source]]),
            sigmas=self.family.sigmas(6, size),
        )

    def loss(self, *, kl_weight=0.1):
        return NftLoss(
            self.family,
            self.policy,
            num_timesteps=NUM_TIMESTEPS,
            nft_beta=0.7,
            kl_weight=kl_weight,
            weighting="adaptive",
            adv_clip=5.0,
            seed=0,
        )

    def gradient(self, *, micro_batch_size=4, max_grad_norm=1e9, **changes):
        """The gradients that `update` passes to the optimizer, and its result."""
        optimizer = torch.optim.SGD(self.policy.parameters(), lr=0.0)
        result = update(
            self.policy,
            optimizer,
            self.batch,
            self.loss(**changes),
            micro_batch_size=micro_batch_size,
            max_grad_norm=max_grad_norm,
            processes=Processes(60),
            on_step=lambda: None,
        )
        gradients = [parameter.grad for parameter in self.policy.parameters()]
        return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None]), result


@pytest.fixture(scope="module")
def parts(editor):
    return Parts(editor)


def test_the_gradient_is_that_of_the_mean_over_all_samples_and_timesteps(parts):
    ours, result = parts.gradient()
    batch, losses = parts.batch, []
    rows = [
        row
        for (index, candidate), worth in zip(batch.places, batch.worth, strict=True)
        for row in parts.loss().rows(parts.rollouts[index], candidate, worth)
    ]
    assert len(rows) == NUM_SAMPLES * NUM_TIMESTEPS
    for row in rows:
        x0, noise = row.rollout.x0[row.candidate][None], row.noise[None]
        t_1 = row.rollout.sigmas[row.step].float()[None]
        x_t = interpolate(x0, noise, t_1)
        conditioning = row.rollout.conditioning
        with parts.policy.use("old"):
            v_old = parts.family.velocity(x_t, t_1, conditioning)
        with parts.policy.use("reference"):
            v_ref = parts.family.velocity(x_t, t_1, conditioning)
        v_theta = parts.family.velocity(x_t, t_1, conditioning)
        terms = nft_loss(v_theta, v_old, v_ref, x_t, x0, t_1, row.worth[None], nft_beta=0.7, adv_clip=5.0)
        losses.append(terms.policy_B + 0.1 * terms.kl_B)
    loss = torch.cat(losses).mean()
    theirs = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parts.policy.parameters())])
    torch.testing.assert_close(ours, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=1e-3)
    assert result.terms["nft/loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert result.grad_norm == pytest.approx(float(theirs.norm()), rel=1e-4)


def test_the_gradient_does_not_depend_on_the_micro_batch(parts):
    (one, _), (many, _) = parts.gradient(micro_batch_size=1), parts.gradient(micro_batch_size=100)
    torch.testing.assert_close(one, many, atol=1e-5 * float(one.abs().max()), rtol=1e-3)


def test_pictures_of_several_sizes_share_a_unit(parts, editor):
    (apart, _), (together, _) = parts.gradient(), Parts(editor, units=(0, 0, 0, 0, 0)).gradient()
    torch.testing.assert_close(apart, together, atol=1e-5 * float(apart.abs().max()), rtol=1e-3)


def test_without_kl_the_reference_is_not_asked(parts, monkeypatch):
    asked, use = set(), parts.policy.use

    def spy(name):
        asked.add(name)
        return use(name)

    monkeypatch.setattr(parts.policy, "use", spy)
    _, result = parts.gradient(kl_weight=0.0)
    assert asked == {"old"}
    assert result.terms["nft/kl"] == 0.0


def test_the_gradient_is_clipped_and_its_norm_reported_as_it_was(parts):
    clipped, result = parts.gradient(max_grad_norm=1e-3)
    assert float(clipped.norm()) == pytest.approx(1e-3, rel=1e-3)
    assert result.grad_norm > 1e-2


def test_each_sample_draws_its_own_distinct_timesteps_of_the_rollouts_grid(parts):
    draws = [
        [row.step for row in parts.loss().rows(parts.rollouts[index], candidate, torch.tensor(0.5))]
        for index, candidate in parts.batch.places
    ]
    assert all(0 <= step < 6 for steps in draws for step in steps)
    assert all(len({*steps}) == NUM_TIMESTEPS for steps in draws)
    assert len({tuple(steps) for steps in draws}) > 1


@pytest.mark.parametrize("when", ["first step", "second step"])
def test_an_update_stops_before_its_first_step_or_takes_all(editor, when):
    parts, signals, taken = Parts(editor), StopSignals(), list[str]()
    batch = replace(
        parts.batch, optimizer_step=torch.tensor([0, 0, 1, 1, 1]), num_samples_per_step=(2, NUM_SAMPLES - 2)
    )
    before = [parameter.detach().clone() for parameter in parts.policy.parameters()]

    def on_rows(_):
        if when == "first step" or taken:
            signals.received = signal.SIGTERM

    def run():
        return update(
            parts.policy,
            torch.optim.SGD(parts.policy.parameters(), lr=1.0),
            batch,
            parts.loss(),
            micro_batch_size=1,
            max_grad_norm=1.0,
            processes=Processes(60, signals),
            on_step=lambda: taken.append("step"),
            on_rows=on_rows,
        )

    if when == "first step":
        with pytest.raises(Stopped):
            run()
        assert all(torch.equal(*pair) for pair in zip(before, parts.policy.parameters(), strict=True))
    else:
        assert run().num_steps == len(taken) == 2
