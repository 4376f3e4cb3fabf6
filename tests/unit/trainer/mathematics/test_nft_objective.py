import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edit_r1.trainer.mathematics.objectives.nft import nft_loss


def naive_adaptive(*, v_theta, v_old, v_ref, x_t, x0, t, rho, beta, adv_clip):
    """The adaptive loss of one sample, computed element by element with Python floats."""
    size = len(x0)
    totals, branches = [], []
    for sign in (+1, -1):
        errors = []
        for i in range(size):
            v = (1 - sign * beta) * v_old[i] + sign * beta * v_theta[i]
            errors.append((x_t[i] - t * v) - x0[i])
        weight = max(sum(abs(e) for e in errors) / size, 1e-5)
        branches.append(sum(e * e / weight for e in errors) / size)
    totals.append(adv_clip * (rho * branches[0] + (1 - rho) * branches[1]) / beta)
    kl = sum((a - b) ** 2 for a, b in zip(v_theta, v_ref, strict=True)) / size
    return totals[0], kl, branches


def case(seed, rows=3, shape=(2, 5), spread=1.0):
    rng = np.random.default_rng(seed)
    x0, noise, v_old, v_ref = (rng.normal(size=(rows, *shape)) for _ in range(4))
    t = rng.uniform(0.05, 1.0, size=rows)
    x_t = (1 - t)[:, None, None] * x0 + t[:, None, None] * noise
    v_theta = v_old + spread * rng.normal(size=v_old.shape)
    values = {"v_theta": v_theta, "v_old": v_old, "v_ref": v_ref, "x_t": x_t, "x0": x0, "t": t}
    return {name: torch.tensor(value) for name, value in values.items()}, torch.tensor(rng.uniform(size=rows))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    beta=st.floats(0.1, 2.0),
    adv_clip=st.floats(0.5, 10.0),
    spread=st.sampled_from([1e-7, 0.1, 1.0]),
)
def test_adaptive_loss_equals_a_naive_float64_implementation(seed, beta, adv_clip, spread):
    inputs, rho = case(seed, spread=spread)
    terms = nft_loss(**inputs, optimality=rho, nft_beta=beta, adv_clip=adv_clip)
    for row in range(3):
        numbers = {name: value[row].flatten().tolist() for name, value in inputs.items() if name != "t"}
        policy, kl, (positive, negative) = naive_adaptive(
            **numbers, t=float(inputs["t"][row]), rho=float(rho[row]), beta=beta, adv_clip=adv_clip
        )
        assert float(terms.policy_B[row]) == pytest.approx(policy, rel=1e-9)
        assert float(terms.kl_B[row]) == pytest.approx(kl, rel=1e-9)
        assert float(terms.positive_B[row]) == pytest.approx(positive, rel=1e-9)
        assert float(terms.negative_B[row]) == pytest.approx(negative, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), beta=st.floats(0.1, 2.0))
def test_velocity_weighting_is_equation_4_to_the_letter(seed, beta):
    inputs, rho = case(seed)
    terms = nft_loss(**inputs, optimality=rho, nft_beta=beta, weighting="velocity")
    numpy = {name: value.numpy() for name, value in inputs.items()}
    noise_minus_data = (numpy["x_t"] - numpy["x0"]) / numpy["t"][:, None, None]
    v_pos = (1 - beta) * numpy["v_old"] + beta * numpy["v_theta"]
    v_neg = (1 + beta) * numpy["v_old"] - beta * numpy["v_theta"]
    positive = ((v_pos - noise_minus_data) ** 2).mean((1, 2))
    negative = ((v_neg - noise_minus_data) ** 2).mean((1, 2))
    expected = rho.numpy() * positive + (1 - rho.numpy()) * negative
    np.testing.assert_allclose(terms.policy_B.numpy(), expected, rtol=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), weighting=st.sampled_from(["adaptive", "velocity"]))
def test_while_old_equals_theta_the_value_ignores_the_reward_but_the_gradient_does_not(seed, weighting):
    inputs, _ = case(seed, spread=0.0)
    values, gradients = [], []
    for rho in (0.1, 0.9):
        v_theta = inputs["v_old"].clone().requires_grad_()
        terms = nft_loss(
            **{**inputs, "v_theta": v_theta}, optimality=torch.full((3,), rho).double(), weighting=weighting
        )
        terms.policy_B.sum().backward()
        values.append(terms.policy_B.detach())
        gradients.append(v_theta.grad)
    torch.testing.assert_close(values[0], values[1])
    assert not torch.allclose(gradients[0], gradients[1], rtol=0.1)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rho=st.floats(0.0, 1.0).filter(lambda value: abs(value - 0.5) > 0.05),
    weighting=st.sampled_from(["adaptive", "velocity"]),
)
def test_a_step_moves_towards_good_candidates_and_away_from_bad_ones(seed, rho, weighting):
    inputs, _ = case(seed, rows=1, spread=0.0)
    v_theta = inputs["v_old"].clone().requires_grad_()
    terms = nft_loss(**{**inputs, "v_theta": v_theta}, optimality=torch.tensor([rho]).double(), weighting=weighting)
    terms.policy_B.sum().backward()

    def distance(velocity):
        return float((inputs["x_t"] - inputs["t"][:, None, None] * velocity - inputs["x0"]).square().sum())

    moved = distance((v_theta - 1e-4 * v_theta.grad).detach())
    assert (moved < distance(inputs["v_old"])) == (rho > 0.5)


def test_without_a_reference_there_is_no_kl():
    inputs, rho = case(0)
    assert torch.equal(nft_loss(**{**inputs, "v_ref": None}, optimality=rho).kl_B, torch.zeros(3).double())


def test_identical_data_and_prediction_gives_a_finite_gradient():
    x0 = torch.zeros(1, 4)
    v_theta = torch.zeros(1, 4, requires_grad=True)
    terms = nft_loss(v_theta, torch.zeros(1, 4), None, x0, x0, torch.tensor([0.5]), torch.tensor([1.0]))
    terms.policy_B.sum().backward()
    assert v_theta.grad is not None
    assert torch.isfinite(v_theta.grad).all()
