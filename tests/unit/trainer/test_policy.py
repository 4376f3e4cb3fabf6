import pytest
import torch
from PIL import Image

from edit_r1.shared.errors import ConfigError
from edit_r1.trainer.models.base import LoadOptions
from edit_r1.trainer.models.flux_kontext import FluxKontext
from edit_r1.trainer.policy.base import COPIES
from edit_r1.trainer.policy.lora import LoraPolicy
from tests.support.tiny_editor import build_tiny_editor

OPTIONS = LoadOptions(guidance=2.5, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    return build_tiny_editor(tmp_path_factory.mktemp("editor"))


class Parts:
    """A policy on a tiny editor, and the velocity of the active copy."""

    def __init__(self, editor, rank=4, seed=0):
        self.family = FluxKontext.load(str(editor), OPTIONS)
        self.plain = self.family.transformer.state_dict()
        self.conditioning = self.family.encode(["make the circle red"], [(Image.new("RGB", (32, 32)),)])
        self.x = self.family.initial_noise([torch.Generator().manual_seed(0)], (32, 32))
        self.before = self.velocity().detach()
        self.policy = LoraPolicy(
            self.family.transformer, rank=rank, alpha=8, targets=self.family.lora_targets, seed=seed
        )

    def velocity(self):
        return self.family.velocity(self.x, torch.tensor([0.5]), self.conditioning)

    def velocity_of(self, name):
        with self.policy.use(name):
            return self.velocity()

    def perturb(self):
        with torch.no_grad():
            for parameter in self.policy.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.3)


@pytest.fixture
def parts(editor):
    return Parts(editor)


def test_all_copies_start_at_the_plain_editor(parts):
    for name in (*COPIES, "reference"):
        assert torch.equal(parts.velocity_of(name), parts.before)


def test_the_trained_policy_moves_alone(parts):
    parts.perturb()
    assert not torch.allclose(parts.velocity(), parts.before, atol=1e-3)
    for name in ("old", "ema", "reference"):
        assert torch.equal(parts.velocity_of(name), parts.before)


def test_only_the_default_adapter_gets_gradients_also_after_others_were_used(parts):
    for name in ("old", "reference", "ema"):
        parts.velocity_of(name)
    parts.velocity().square().mean().backward()
    with_gradient = {name for name, p in parts.family.transformer.named_parameters() if p.grad is not None}
    trained = {id(parameter) for parameter in parts.policy.parameters()}
    assert with_gradient
    assert all(id(p) in trained for n, p in parts.family.transformer.named_parameters() if n in with_gradient)
    assert len(with_gradient) == len(trained)


@pytest.mark.parametrize(("decay", "share"), [(0.0, 1.0), (0.75, 0.25)])
def test_copies_follow_by_their_decay(parts, decay, share):
    start = parts.policy.state("old")
    parts.perturb()
    parts.policy.update_old(decay)
    parts.policy.update_ema(decay)
    target, old, ema = (parts.policy.state(name) for name in ("default", "old", "ema"))
    for key in start:
        torch.testing.assert_close(old[key], torch.lerp(start[key], target[key], share))
        assert torch.equal(old[key], ema[key])


def test_what_is_written_to_a_copys_tensors_counts(parts, editor):
    parts.perturb()
    other = Parts(editor, seed=1)
    for key, tensor in other.policy.tensors("default").items():
        tensor.copy_(parts.policy.state("default")[key])
    assert torch.equal(other.velocity(), parts.velocity())


def test_a_target_that_names_no_module_is_a_clear_error(editor):
    family = FluxKontext.load(str(editor), OPTIONS)
    with pytest.raises(ConfigError, match=r"lora\.targets = \['to_nowhere'\]"):
        LoraPolicy(family.transformer, rank=4, alpha=8, targets=["to_nowhere"], seed=0)


def test_the_seed_decides_the_start_and_leaves_torchs_own_generator_alone(editor):
    state = torch.get_rng_state()
    first, same, other = (Parts(editor, seed=seed).policy.state("default") for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
