"""The doctor's estimates compared with torch's counts, for every family."""

import dataclasses

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from edit_r1.shared.config import load_config
from edit_r1.trainer.config import TrainConfig
from edit_r1.trainer.doctor.estimates import checkpoint_bytes, epoch_flops, forward_flops, kept_for_backward, memory
from edit_r1.trainer.doctor.planning import Gpus, plan_of, shape_of
from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.models import FAMILIES, family_class
from edit_r1.trainer.models.base import LoadOptions
from edit_r1.trainer.policy.checkpoint import RandomStates, RunState, save
from edit_r1.trainer.policy.lora import LoraPolicy
from edit_r1.trainer.tasks.group_sampler import SamplerState
from tests.unit.trainer.test_model_family import BUILDERS

ROWS, SIZE, GPUS = 4, (64, 64), Gpus(count=1, gigabytes=80, teraflops=400)


class Case:
    """A family with adapters, inputs of one forward pass, and the doctor's sizes for them."""

    def __init__(self, name, path):
        overrides = ["data.train=x", "run_dir=x", "model.width=64", "model.height=64", "model.precision=float32"]
        settings = [f"model.family={name}", f"model.path={path}", f"micro_batch_size={ROWS}", "lora.rank=4"]
        empty = path / "empty.yaml"
        empty.write_text("{}")
        self.config = load_config(TrainConfig, empty, [*overrides, *settings])
        self.family = family_class(name).load(str(path), LoadOptions(guidance=2.5, device=torch.device("cpu")))
        self.policy = LoraPolicy(
            self.family.transformer, rank=4, alpha=8, targets=self.family.lora_targets, seed=0, merges=False
        )
        image = Image.new("RGB", SIZE)
        self.conditioning = self.family.encode(["make the circle red"] * ROWS, [(image,)] * ROWS)
        self.x = self.family.initial_noise([torch.Generator().manual_seed(0)] * ROWS, SIZE)
        plain = family_class(name).load(
            str(path), LoadOptions(guidance=2.5, device=torch.device("cpu"), without_weights=True)
        )
        self.shape = shape_of(plain, self.config)
        plan = plan_of(plain, self.config, GPUS, num_sources=1)
        self.plan = dataclasses.replace(plan, text_tokens=self.conditioning.batched["tokens"].shape[1])

    def forward(self):
        return self.family.velocity(self.x, torch.full((ROWS,), 0.5), self.conditioning)


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def case(request, tmp_path_factory):
    return Case(request.param, BUILDERS[request.param](tmp_path_factory.mktemp(request.param)))


def test_a_skeleton_has_the_sizes_of_the_model(case):
    loaded = shape_of(case.family, case.config)
    adapters = sum(parameter.numel() for parameter in case.policy.parameters())
    assert case.shape.adapter == adapters
    # The loaded transformer has three adapters in addition to its own weights.
    assert case.shape.transformer == loaded.transformer - 3 * adapters
    assert (case.shape.text_encoders, case.shape.vae) == (loaded.text_encoders, loaded.vae)


def test_the_arithmetic_of_a_forward_is_what_torch_counts(case):
    # torch counts attention only if it consists of plain matrix products.
    plain = sdpa_kernel(SDPBackend.MATH)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), case.policy.use("reference"), plain:
        case.forward()
    # These models are so small that the layers before and after the blocks matter.
    assert ROWS * forward_flops(case.shape, case.plan) == pytest.approx(counter.get_total_flops(), rel=0.25)


def test_what_a_forward_keeps_is_estimated_within_a_factor(case):
    own = {tensor.untyped_storage().data_ptr() for tensor in case.family.transformer.parameters()}
    kept, alive = {}, []

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        case.forward()
    assert 0.6 < sum(kept.values()) / kept_for_backward(case.shape, case.plan) < 1.7


def test_the_reference_is_asked_only_where_its_divergence_counts(case):
    for algorithm, num_forwards in (("nft", 2), ("flow_grpo", 1)):
        config = case.config.model_copy(update={"algorithm": algorithm})
        assert plan_of(case.family, config, GPUS, num_sources=1).forwards_without_gradient == num_forwards


def test_a_negative_branch_doubles_the_rows_where_there_is_one(case):
    def plan(*overrides):
        settings = [f"model.family={case.config.model.family}", "data.train=x", "run_dir=x", "model.path=x"]
        config = load_config(TrainConfig, None, [*settings, "group_size=6", *overrides])
        return plan_of(case.family, config, GPUS, num_sources=1)

    plain, guided = plan(), plan("rollout.true_cfg=4")
    assert (plain.generated_rows, guided.generated_rows) == (6, 12)
    assert guided.decoded_pixels == plain.decoded_pixels
    before, after = epoch_flops(case.shape, plain), epoch_flops(case.shape, guided)
    assert (after["rollout"], after["update"]) == (2 * before["rollout"], before["update"])
    # Held-out tasks are edited in batches of their own, of 8.
    assert plan("data.held_out=x").generated_rows == 8
    assert plan("data.held_out=x", "evaluation.true_cfg=4").generated_rows == 16
    assert plan("data.held_out=x", "rollout.true_cfg=4", "evaluation.true_cfg=null").generated_rows == 12


def test_the_vae_takes_its_measured_numbers_for_the_pixels_it_gets_at_once(case):
    def plan(**changes):
        values = case.config.model_dump()
        for name, value in changes.items():
            section, key = name.split("__")
            values[section][key] = value
        return plan_of(case.family, TrainConfig.model_validate(values), GPUS, num_sources=1)

    image = SIZE[0] * SIZE[1]
    for allowed, decoded in ((1, 1), (image, 1), (5 * image, 5), (100 * image, case.config.group_size)):
        made = plan(model__vae_pixels=allowed)
        assert (made.decoded_pixels, made.encoded_pixels) == (decoded * image, image)
    # Held-out tasks are edited in batches of their own.
    settings = {"evaluation__batch_size": 40, "model__vae_pixels": 100 * image}
    assert plan(**settings).decoded_pixels == case.config.group_size * image
    evaluated = plan(data__held_out="x", **settings)
    assert evaluated.decoded_pixels == evaluated.encoded_pixels == 40 * image
    parts = memory(case.shape, dataclasses.replace(evaluated, generated_rows=0, update_rows=0))
    assert parts["activations (most in decoding)"] == 40 * image * case.family.decoder_numbers * 4


def test_a_checkpoint_has_the_size_that_was_estimated(case, tmp_path):
    optimizer = torch.optim.AdamW(case.policy.parameters())
    for parameter in case.policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    state = RunState(epoch=1, optimizer_steps=1, sampler=SamplerState(0, 0, ()), seconds=0.0)
    random_states = RandomStates({})
    saved = save(
        tmp_path,
        case.policy,
        optimizer,
        state,
        random_states=random_states,
        config_yaml="",
        keep=1,
        processes=Processes(60),
    )
    weights = [tensor for file in saved.rglob("*.safetensors") for tensor in load_file(file).values()]
    assert sum(tensor.nbytes for tensor in weights) == pytest.approx(checkpoint_bytes(case.shape, case.plan), rel=0.02)


def test_what_saves_memory_does_and_costs_what_it_costs(case):
    # Without the VAE, whose turn is the largest for models this small.
    plan = dataclasses.replace(case.plan, num_gpus=4, update_rows=64, decoded_pixels=0, encoded_pixels=0)

    def total(**changes):
        return sum(memory(case.shape, dataclasses.replace(plan, **changes)).values())

    assert total(sharded=True, num_gpus=64) < total(sharded=True, num_gpus=4)
    assert total(checkpoints=True) < total()
    assert total(update_rows=8) < total()
    assert total(full=True) > total()
    for changes in ({"checkpoints": True}, {"full": True}, {"forwards_without_gradient": 3}):
        costly = epoch_flops(case.shape, dataclasses.replace(plan, **changes))
        assert costly["update"] > epoch_flops(case.shape, plan)["update"]
        assert costly["rollout"] == epoch_flops(case.shape, plan)["rollout"]
