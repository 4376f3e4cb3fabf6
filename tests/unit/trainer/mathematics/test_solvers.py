import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from edit_r1.trainer.mathematics.solvers import dpm_solver_2m, dpm_solver_coefficients, euler


def model_grid(num_steps, image_tokens=1024):
    """The shifted grid of FLUX's scheduler."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    mu = 0.5 + (1.15 - 0.5) * (image_tokens - 256) / (4096 - 256)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / num_steps, num_steps), mu=mu)
    return scheduler.sigmas.double()


def gaussian_velocity(mean, std):
    """The exact velocity field when the data are N(mean, std^2): v = E[noise - x0 | x_t]."""

    def velocity(x, t):
        t = t.reshape(-1, 1).to(x.dtype)
        variance = ((1 - t) * std) ** 2 + t**2
        surprise = (x - (1 - t) * mean) / variance
        return t * surprise - (mean + (1 - t) * std**2 * surprise)

    return velocity


def gaussian_solution(noise, mean, std):
    """The exact flow's result for given noise: the monotone map between the two Gaussians."""
    return mean + std * noise


@pytest.mark.parametrize("num_steps", [1, 2, 6, 15])
def test_both_solvers_are_exact_when_all_data_are_one_point(num_steps):
    noise = torch.randn(4, 3, dtype=torch.float64)
    point = torch.tensor([[0.5, -2.0, 1.0]], dtype=torch.float64)

    def velocity(x, t):
        return (x - point) / t[:, None].double()

    for solver in (dpm_solver_2m, euler):
        torch.testing.assert_close(
            solver(velocity, noise, model_grid(num_steps)), point.expand(4, 3), atol=1e-6, rtol=0
        )


def test_dpm_solver_follows_an_analytic_flow_closer_than_euler():
    noise = torch.randn(2000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    velocity, exact = gaussian_velocity(0.7, 0.3), gaussian_solution(noise, 0.7, 0.3)

    def error(solver, num_steps):
        return float((solver(velocity, noise, model_grid(num_steps)) - exact).abs().mean())

    assert error(dpm_solver_2m, 6) < error(euler, 6)
    assert error(dpm_solver_2m, 20) < error(euler, 20) / 3
    assert error(dpm_solver_2m, 200) < 1e-3
    assert error(euler, 400) < 3e-3


def test_dpm_solver_is_of_second_order():
    noise = torch.randn(500, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    velocity, exact = gaussian_velocity(0.7, 0.5), gaussian_solution(noise, 0.7, 0.5)
    # Stay away from both ends of the grid, where first-order steps would hide the order; the end is exact enough.
    errors = []
    for num_steps in (40, 80):
        sigmas = torch.cat([torch.linspace(0.999, 0.001, num_steps, dtype=torch.float64), torch.zeros(1).double()])
        start = (1 - 0.999) * exact + 0.999 * noise  # not on the flow exactly, but the same for both
        finer = torch.cat([torch.linspace(0.999, 0.001, 2000, dtype=torch.float64), torch.zeros(1).double()])
        reference = dpm_solver_2m(velocity, start, finer)
        errors.append(float((dpm_solver_2m(velocity, start, sigmas) - reference).abs().mean()))
    assert errors[0] / errors[1] > 3


@pytest.mark.parametrize("num_steps", [2, 6, 15])
def test_dpm_solver_equals_diffusers_formulas_on_the_models_grid(num_steps):
    sigmas = model_grid(num_steps)
    velocity = gaussian_velocity(torch.tensor([0.7, -0.2]), 0.3)
    noise = torch.randn(5, 2, generator=torch.Generator().manual_seed(2))

    scheduler = DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", algorithm_type="dpmsolver++", solver_order=2
    )
    scheduler.set_timesteps(num_steps)
    scheduler.sigmas = sigmas  # it accepts no grid, so set it directly
    scheduler.timesteps = (sigmas[:-1] * 1000).float()
    x = noise.clone()
    for step, timestep in enumerate(scheduler.timesteps):
        v = velocity(x, torch.full((5,), float(sigmas[step])))
        x = scheduler.step(v, timestep, x).prev_sample

    ours = dpm_solver_2m(velocity, noise, sigmas)
    torch.testing.assert_close(ours, x, atol=1e-5, rtol=0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=20, unique_by=lambda value: round(value, 3)))
def test_each_step_keeps_a_straight_path_straight(levels):
    # If x0 is constant along the path, every step must land on the line between x0 and the noise.
    sigmas = torch.tensor([*sorted(levels, reverse=True), 0.0], dtype=torch.float64)
    for step, coefficients in enumerate(dpm_solver_coefficients(sigmas)):
        sigma, following = float(sigmas[step]), float(sigmas[step + 1])
        x0, noise = 2.0, -3.0
        x = (1 - sigma) * x0 + sigma * noise
        landed = coefficients.x_weight * x + coefficients.data_weight * x0
        assert landed == pytest.approx((1 - following) * x0 + following * noise, abs=1e-9)


def test_the_first_second_and_last_steps_are_first_order():
    extrapolations = [step.extrapolation for step in dpm_solver_coefficients(model_grid(6))]
    assert extrapolations[0] == extrapolations[1] == extrapolations[-1] == 0.0
    assert all(value > 0 for value in extrapolations[2:-1])


@pytest.mark.parametrize("grid", [[1.0], [1.0, 0.5], [0.5, 1.0, 0.0], [1.2, 0.0], [1.0, 1.0, 0.0]])
def test_a_grid_that_does_not_fall_to_zero_is_refused(grid):
    with pytest.raises(ValueError, match="sigmas must decrease"):
        dpm_solver_coefficients(torch.tensor(grid))
