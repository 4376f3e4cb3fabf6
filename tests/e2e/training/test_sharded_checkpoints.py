"""Checkpoints of full fine-tuning in shards: resumed by other numbers of processes, and what happens when one fails."""

import pytest
import torch

from edit_r1.trainer.policy.checkpoint import newest_whole
from edit_r1.trainer.policy.full import FullPolicy
from edit_r1.trainer.policy.manifest import damage
from tests.support.color_judge import ColorJudge, serving
from tests.support.forked import Forked
from tests.support.tiny_run import train_on_two, weights

SETTINGS = ("tuning=full", "optimizer.learning_rate=0.0003", "data.held_out=null")
SHARDED = "model.sharding=fsdp"
PARTS = (*(f"{name}/{FullPolicy.weights_name}" for name in ("policy", "old", "ema")), "optimizer.safetensors")
# Resumes a run that is already over, and saves it again.
SAVE_AGAIN = """
import sys
from edit_r1.trainer.config import read_config
from edit_r1.trainer.machine.progress import Display
from edit_r1.trainer.run.assembly import assemble, save_checkpoint
from edit_r1.trainer.run.preflight import preflight
config, display = read_config(sys.argv[1], sys.argv[2:]), Display(visible=False)
with assemble(config, preflight(config, display.say), display) as run:
    save_checkpoint(run)
"""
# Trains, but the second process cannot write.
FAIL = """
import os, sys
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from edit_r1.trainer.cli import main
def full(*_):
    raise OSError("No space left on device")
if os.environ["RANK"] == "1":
    HuggingFaceStorageWriter.write_data = full
main()
"""


@pytest.fixture(scope="module")
def sharded(tiny, tmp_path_factory):
    """(run directory of two processes, URL)."""
    run_dir = tmp_path_factory.mktemp("sharded") / "run"
    with serving(ColorJudge()) as url:
        status, output = train_on_two(tiny.arguments(url, run_dir, "epochs=1", *SETTINGS, SHARDED))
        assert status == 0, output
        yield run_dir, url


def test_any_number_of_processes_resumes_weights_and_moments_bit_for_bit(sharded, tiny, tmp_path):
    start, url = sharded
    before = {part: weights(start, 1, part) for part in PARTS}
    for num_processes, sharding, files in (
        (1, "none", {"diffusion_p"}),
        (3, "fsdp", {"shard-00001", "shard-00002", "shard-00003"}),
        (2, "none", {"diffusion_p"}),
    ):
        run_dir = tmp_path / f"{num_processes}-{sharding}"
        overrides = (*SETTINGS, f"model.sharding={sharding}", f"resume={start / 'checkpoints/step-1'}")
        arguments = tiny.arguments(url, run_dir, "epochs=1", *overrides)
        status, output = Forked("python", "-c", SAVE_AGAIN, *arguments, num_processes=num_processes).finish()
        assert status == 0, output
        assert {path.name[:11] for path in (run_dir / "checkpoints/step-1/ema").glob("*.safetensors")} == files
        for part, tensors in before.items():
            after = weights(run_dir, 1, part)
            assert tensors.keys() == after.keys()
            assert all(torch.equal(value, after[key]) for key, value in tensors.items()), part
        start = run_dir


def test_each_process_writes_its_share_and_nothing_is_pickled(sharded):
    checkpoint = sharded[0] / "checkpoints/step-1"
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ".yaml"}
    sizes = [sum(path.stat().st_size for path in files if path.name.startswith(f"shard-0000{rank}")) for rank in (1, 2)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.2)
    for file in files:
        if file.name != "manifest.json":
            data = file.read_bytes()
            file.write_bytes(data[:-1])
            assert str(file.relative_to(checkpoint)) in (damage(checkpoint) or "")
            file.write_bytes(data)
    assert damage(checkpoint) is None


def test_when_one_process_cannot_write_all_fail_with_its_error_and_no_checkpoint_is_left(tiny, tmp_path):
    with serving(ColorJudge()) as url:
        arguments = tiny.arguments(url, tmp_path / "run", "epochs=1", *SETTINGS, SHARDED)
        run = Forked("python", "-c", FAIL, *arguments, num_processes=2)
        statuses = run.ended()
    assert statuses == [1, 1]
    assert "cannot write" in run.output
    assert "process 1: OSError('No space left on device')" in run.output
    assert newest_whole(tmp_path / "run/checkpoints", print) is None
    assert list((tmp_path / "run/checkpoints").iterdir()) == []
