import numpy as np
import pytest
import torch
from diffusers import FluxKontextPipeline
from PIL import Image

from edit_r1.shared.errors import CheckpointError
from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.mathematics.solvers import euler
from edit_r1.trainer.models.base import LoadOptions
from edit_r1.trainer.models.flux_kontext import FluxKontext
from edit_r1.trainer.policy import checkpoint
from edit_r1.trainer.policy.base import COPIES
from edit_r1.trainer.policy.checkpoint import RandomStates, RunState
from edit_r1.trainer.policy.export import export_adapter
from edit_r1.trainer.policy.lora import LoraPolicy
from edit_r1.trainer.rollout.velocity import velocity_given
from edit_r1.trainer.tasks.group_sampler import SamplerState
from tests.support.tiny_editor import build_tiny_editor

OPTIONS = LoadOptions(guidance=2.5, device=torch.device("cpu"))
STATE = RunState(epoch=3, optimizer_steps=6, sampler=SamplerState(1, 2, ("id7",)), seconds=12.5)


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    return build_tiny_editor(tmp_path_factory.mktemp("editor"))


def trained(editor, steps=3, seed=0):
    """A family, a policy and an optimizer after some steps, with all copies different."""
    family = FluxKontext.load(str(editor), OPTIONS)
    # alpha / rank is 3, so that a lost or doubled scale is noticed.
    policy = LoraPolicy(family.transformer, rank=4, alpha=12, targets=family.lora_targets, seed=seed)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.1)
    source = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for parameter in policy.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=source)
        optimizer.step()
        policy.update_old(0.5)
        policy.update_ema(0.3 + 0.1 * step)
    return family, policy, optimizer


def save(directory, policy, optimizer, state=STATE, keep=2):
    return checkpoint.save(
        directory,
        policy,
        optimizer,
        state,
        random_states=RandomStates({0: torch.get_rng_state()}),
        config_yaml="seed: 0\n",
        keep=keep,
        processes=Processes(60),
    )


def test_everything_comes_back_bit_for_bit(editor, tmp_path):
    _, policy, optimizer = trained(editor)
    path = save(tmp_path, policy, optimizer)
    expected_draw = torch.rand(3)

    _, fresh, fresh_optimizer = trained(editor, steps=0, seed=9)
    assert checkpoint.restore(path, fresh, fresh_optimizer, rank=0) == STATE
    assert torch.equal(torch.rand(3), expected_draw)
    for name in COPIES:
        ours, theirs = policy.state(name), fresh.state(name)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    before, after = optimizer.state_dict()["state"], fresh_optimizer.state_dict()["state"]
    assert before.keys() == after.keys()
    for index, moments in before.items():
        assert all(torch.equal(value, after[index][name]) for name, value in moments.items())


def test_nothing_in_a_checkpoint_is_pickled(editor, tmp_path):
    _, policy, optimizer = trained(editor)
    path = save(tmp_path, policy, optimizer)
    suffixes = {file.suffix for file in path.rglob("*") if file.is_file()}
    assert suffixes == {".safetensors", ".json", ".yaml"}


def damage_truncate(path):
    file = path / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def damage_flip(path):
    file = path / "ema" / LoraPolicy.weights_name
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def damage_delete(path):
    (path / "state.json").unlink()


def damage_manifest(path):
    (path / "manifest.json").write_text('{"state.js')


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (damage_truncate, "optimizer.safetensors has"),
        (damage_flip, "does not match its SHA-256 in manifest.json"),
        (damage_delete, "state.json is missing"),
        (damage_manifest, "manifest.json is missing or unreadable"),
    ],
)
def test_a_torn_checkpoint_is_passed_over_with_a_message(editor, tmp_path, harm, message):
    _, policy, optimizer = trained(editor)
    good = save(tmp_path, policy, optimizer)
    torn = save(tmp_path, policy, optimizer, STATE.model_copy(update={"epoch": 4}))
    harm(torn)
    told: list[str] = []
    assert checkpoint.newest_whole(tmp_path, told.append) == good
    (line,) = told
    assert str(torn) in line
    assert message in line


def test_a_writer_that_dies_leaves_no_checkpoint(editor, tmp_path, monkeypatch):
    _, policy, optimizer = trained(editor)

    def die(directory, entries):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "write_manifest", die)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, policy, optimizer)
    assert checkpoint.newest_whole(tmp_path, print) is None
    assert list(tmp_path.glob("step-*")) == []


def test_only_the_newest_stay(editor, tmp_path):
    _, policy, optimizer = trained(editor)
    for epoch in (1, 2, 9, 10, 11):
        save(tmp_path, policy, optimizer, STATE.model_copy(update={"epoch": epoch}), keep=2)
    assert {path.name for path in tmp_path.iterdir()} == {"step-10", "step-11"}
    # A run resumed before step-11 takes its own course: later checkpoints are deleted.
    save(tmp_path, policy, optimizer, STATE.model_copy(update={"epoch": 5}), keep=2)
    assert {path.name for path in tmp_path.iterdir()} == {"step-5"}


def test_a_checkpoint_of_another_policy_is_refused(editor, tmp_path):
    _, policy, optimizer = trained(editor)
    path = save(tmp_path, policy, optimizer)
    family = FluxKontext.load(str(editor), OPTIONS)
    other = LoraPolicy(family.transformer, rank=2, alpha=4, targets=family.lora_targets, seed=0)
    with pytest.raises(CheckpointError, match="does not match"):
        checkpoint.restore(path, other, torch.optim.AdamW(other.parameters()), rank=0)


def edit_with(family):
    conditioning = family.encode(["make the circle red"], [(Image.new("RGB", (32, 32), "green"),)])
    noise = family.initial_noise([torch.Generator().manual_seed(5)], (32, 32))
    x0 = euler(velocity_given(family, conditioning), noise, family.sigmas(3, (32, 32)))
    return np.asarray(family.decode(x0, (32, 32))[0], int), x0


def edit_in_plain_diffusers(editor, adapter_directory, output_type="pil"):
    pipeline = FluxKontextPipeline.from_pretrained(editor)
    pipeline.set_progress_bar_config(disable=True)
    if adapter_directory is not None:
        pipeline.load_lora_weights(adapter_directory)
    image = pipeline(
        image=Image.new("RGB", (32, 32), "green"),
        prompt="make the circle red",
        height=32,
        width=32,
        max_area=32 * 32,
        _auto_resize=False,
        num_inference_steps=3,
        guidance_scale=2.5,
        max_sequence_length=12,
        generator=torch.Generator().manual_seed(5),
        output_type=output_type,
    ).images[0]
    return np.asarray(image, int) if output_type == "pil" else image


@pytest.mark.parametrize("name", COPIES)
def test_adapters_load_in_plain_diffusers_at_full_strength(editor, tmp_path, name):
    family, policy, optimizer = trained(editor)
    path = save(tmp_path / "checkpoints", policy, optimizer)
    export_adapter(policy, name, tmp_path / "lora")
    with policy.use(name):
        ours, x0 = edit_with(family)
    folder = {"default": "policy", "old": "old", "ema": "ema"}[name]
    for directory in (path / folder, tmp_path / "lora"):
        assert np.abs(edit_in_plain_diffusers(editor, directory) - ours).max() <= 1
        latents = edit_in_plain_diffusers(editor, directory, "latent")
        torch.testing.assert_close(latents, x0[0], atol=1e-4, rtol=0)
    assert np.abs(edit_in_plain_diffusers(editor, None) - ours).max() > 10


def test_an_exported_file_needs_no_metadata_for_its_scale(editor, tmp_path):
    from safetensors import safe_open

    _, policy, _ = trained(editor)
    path = export_adapter(policy, "default", tmp_path)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt"}
        key = next(key for key in file.keys() if "lora_B" in key)  # noqa: SIM118 - not a dict
        raw = policy.state("default")[key.removeprefix("transformer.")]
        torch.testing.assert_close(file.get_tensor(key), raw * 3)
