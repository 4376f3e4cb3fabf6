"""Flow-GRPO's stochastic solver and objective, compared with exact results."""

import pytest
import torch

from edit_r1.trainer.mathematics.objectives.flow_grpo import grpo_loss, log_prob
from edit_r1.trainer.mathematics.solvers import StochasticStep, euler, stochastic, stochastic_step

SIGMAS = torch.tensor([1.0, 0.85, 0.6, 0.35, 0.1, 0.0], dtype=torch.float64)


def normal_velocity(mean, scale):
    """The exact velocity of the flow from noise to data distributed as normal(mean, scale^2) in each dimension.

    E[noise - x0 | x_t] for jointly normal x0 and x_t = (1 - t) x0 + t noise.
    """

    def velocity(x, t):
        t = t.reshape(-1, 1)
        variance = (1 - t) ** 2 * scale**2 + t**2
        off = x - (1 - t) * mean
        return t * off / variance - (mean + (1 - t) * scale**2 * off / variance)

    return velocity


def test_without_noise_it_is_eulers_method():
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    velocity = normal_velocity(0.5, 0.3)
    path = stochastic(velocity, noise, SIGMAS, torch.zeros(4, 4, 3), noise_level=1e-6)
    torch.testing.assert_close(path[-1], euler(velocity, noise, SIGMAS), atol=1e-5, rtol=0)
    assert torch.equal(path[0], noise)
    assert path.shape == (6, 4, 3)


def test_it_has_the_marginals_of_the_flow():
    """On a fine grid, samples have the data's distribution, regardless of the noise level."""
    source = torch.Generator().manual_seed(1)
    sigmas = torch.linspace(1, 0, 401, dtype=torch.float64)
    noise = torch.randn(4000, 1, generator=source)
    step_noise = torch.randn(399, 4000, 1, generator=source)
    path = stochastic(normal_velocity(0.5, 0.3), noise, sigmas, step_noise, noise_level=0.7)
    assert path[-1].mean() == pytest.approx(0.5, abs=0.03)
    assert path[-1].std() == pytest.approx(0.3, abs=0.03)
    half = path[200]
    assert half.std() == pytest.approx((0.25 * 0.09 + 0.25) ** 0.5, abs=0.03)
    assert (path[1:-1] - path[:-2]).std() > 0  # the solver did add noise


def test_the_log_probability_is_the_normal_distributions():
    source = torch.Generator().manual_seed(2)
    x, v, noise = (torch.randn(3, 2, 5, generator=source) for _ in range(3))
    sigma, following = torch.full((3,), 0.6), torch.full((3,), 0.35)
    step = stochastic_step(x, v, sigma, following, noise_level=0.7, largest=0.85)
    x_next = step.mean + step.std * noise
    wanted = torch.distributions.Normal(step.mean, step.std).log_prob(x_next).flatten(1).mean(1)
    torch.testing.assert_close(log_prob(x_next, step), wanted)


def step_of(mean):
    return StochasticStep(mean=mean, std=torch.full((len(mean), 1), 0.5))


def test_on_policy_the_loss_is_minus_the_advantage_and_its_gradient_raises_what_was_good():
    mean = torch.zeros(2, 4, requires_grad=True)
    x_next = torch.ones(2, 4)
    advantage = torch.tensor([2.0, -1.0])
    old = log_prob(x_next, step_of(mean.detach()))
    terms = grpo_loss(x_next, step_of(mean), old, None, advantage, clip_range=1e-4)
    torch.testing.assert_close(terms.policy_B, -advantage)
    assert torch.equal(terms.ratio_B, torch.ones(2))
    (gradient,) = torch.autograd.grad(terms.policy_B.sum(), mean)
    # Gradient descent moves the mean towards the good step taken, and away from the bad one.
    assert (gradient[0] < 0).all()
    assert (gradient[1] > 0).all()


def test_clipping_stops_the_gradient_of_steps_that_have_moved_far_enough():
    x_next = torch.ones(2, 4)
    old = log_prob(x_next, step_of(torch.zeros(2, 4)))
    mean = torch.full((2, 4), 0.5, requires_grad=True)  # both more likely than they were
    terms = grpo_loss(x_next, step_of(mean), old, None, torch.tensor([1.0, -1.0]), clip_range=0.1)
    (gradient,) = torch.autograd.grad(terms.policy_B.sum(), mean)
    assert (gradient[0] == 0).all()  # good, already pushed far enough
    assert (gradient[1] != 0).all()  # bad, and more likely than before: must still be pushed back
    assert terms.clipped_B.tolist() == [1.0, 0.0]


def test_the_divergence_from_the_reference_is_that_of_two_normals():
    theta, reference = step_of(torch.full((1, 4), 0.3)), step_of(torch.full((1, 4), 0.1))
    old = log_prob(torch.zeros(1, 4), theta)
    terms = grpo_loss(torch.zeros(1, 4), theta, old, reference, torch.zeros(1), clip_range=0.1)
    normals = [torch.distributions.Normal(step.mean, step.std.expand(1, 4)) for step in (theta, reference)]
    wanted = torch.distributions.kl_divergence(*normals).mean(1)
    torch.testing.assert_close(terms.kl_B, wanted)
