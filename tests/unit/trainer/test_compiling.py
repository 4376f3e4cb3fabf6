import pytest
import torch
from PIL import Image

from edit_r1.trainer.machine import compiling
from edit_r1.trainer.machine.compiling import CompiledBlocks
from edit_r1.trainer.models.base import LoadOptions
from edit_r1.trainer.models.flux_kontext import FluxKontext
from edit_r1.trainer.policy.base import PolicyName
from edit_r1.trainer.policy.lora import LoraPolicy
from edit_r1.worlds.shapes.demo import HERE
from tests.support.forked import Forked


@pytest.fixture(autouse=True)
def compiler(monkeypatch):
    """A compiler without a past. Tests of vLLM switch it off for their process."""
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=8):
        yield
    torch._dynamo.reset()


class Editor:
    """The demo's editor in bfloat16 with LoRA, and the forward passes of a training run."""

    def __init__(self, sharder=None):
        options = LoadOptions(guidance=2.5, device=torch.device("cpu"), precision="bfloat16")
        self.family = FluxKontext.load(str(HERE / "editor"), options)
        self.policy = LoraPolicy(
            self.family.transformer, rank=4, alpha=8, targets=self.family.lora_targets, seed=0, sharder=sharder
        )
        with torch.no_grad():
            for parameter in self.policy.parameters():
                parameter.add_(0.1)
        self.conditioning = self.family.encode(["make it red"], [[Image.new("RGB", (32, 32), "navy")]])

    def velocity(self, num_rows):
        noise = self.family.initial_noise([torch.Generator().manual_seed(i) for i in range(num_rows)], (32, 32))
        rows = torch.zeros(num_rows, dtype=torch.int64)
        return self.family.velocity(noise, torch.full((num_rows,), 0.5), self.conditioning.select(rows))

    def epoch(self):
        """Velocities of rollout, two micro-batches and evaluation, and the gradients of the micro-batches."""
        found = []
        num_positions = sum(map(len, self.conditioning.shared.values()))  # as many rows as the rotations have
        passes: list[tuple[PolicyName, int]] = [
            ("old", 12),
            ("old", 5),
            ("reference", 5),
            ("old", 3),
            ("ema", num_positions),
        ]
        for name, num_rows in passes:
            with self.policy.use(name):
                found.append(self.velocity(num_rows))
        for num_rows in (5, 3):
            velocity = self.velocity(num_rows)
            velocity.square().mean().backward()
            found.append(velocity.detach())
        found += [parameter.grad.clone() for parameter in self.policy.parameters() if parameter.grad is not None]
        for parameter in self.policy.parameters():
            parameter.grad = None
        return found


def test_a_bf16_lora_run_stays_below_torchs_own_limit_and_its_numbers():
    editor = Editor()
    plain = editor.epoch()
    said: list[str] = []
    compiled = CompiledBlocks(editor.family.transformer, "eager", said.append)
    for ours, theirs in zip(editor.epoch(), plain, strict=True):
        assert torch.equal(ours, theirs)
    # Two classes of blocks: with adapters, without, with gradient; the first also with a gradient of its inputs.
    assert compiled.num_new_graphs() == 4 + 3
    editor.epoch()
    assert compiled.num_new_graphs() == 0
    assert (said, compiled.uncompiled) == ([], frozenset())


def test_above_the_limit_it_says_once_what_runs_uncompiled(monkeypatch):
    monkeypatch.setattr(compiling, "LIMIT", 2)
    editor = Editor()
    plain = editor.epoch()
    said: list[str] = []
    compiled = CompiledBlocks(editor.family.transformer, "eager", said.append)
    for ours, theirs in zip(editor.epoch() + editor.epoch(), plain + plain, strict=True):
        assert torch.equal(ours, theirs)
    assert len(said) == 2
    assert said[0].startswith("WARNING: FluxTransformerBlock has been compiled for 2 kinds of inputs, the maximum")
    assert compiled.uncompiled == {"FluxTransformerBlock", "FluxSingleTransformerBlock"}


def test_sharded_blocks_are_compiled_too():
    code = """
import torch
from tests.unit.trainer.test_compiling import Editor
from edit_r1.trainer.machine.compiling import CompiledBlocks
from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.machine.sharding import Sharder
processes = Processes(60)
plain, sharded = Editor(), Editor(Sharder(processes.device, processes.count, torch.bfloat16))
compiled = CompiledBlocks(sharded.family.transformer, "eager", print)
torch.testing.assert_close(sharded.velocity(2), plain.velocity(2))
print(f"{compiled.num_new_graphs()} graphs", flush=True)
processes.close()
"""
    variables = {"CUDA_VISIBLE_DEVICES": "", "TORCHDYNAMO_DISABLE": "0"}
    status, output = Forked("python", "-c", code, num_processes=2, **variables).finish(120)
    assert status == 0, output
    assert output.count("3 graphs") == 2, output


def test_a_model_without_repeated_blocks_is_refused():
    with pytest.raises(ValueError, match="Linear has no repeated blocks"):
        CompiledBlocks(torch.nn.Linear(2, 2), "eager", print)
