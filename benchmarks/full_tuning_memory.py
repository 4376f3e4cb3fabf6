"""Host memory and time of loading and of writing a checkpoint in full fine-tuning with sharding, the old way and ours.

    python -m benchmarks.full_tuning_memory [--width 1024] [--blocks 3]

Two gloo processes on CPUs train FLUX.1-Kontext's architecture, narrowed, with random weights, which are written once in
bfloat16. The old way, kept here as reference: every process loads all weights in float32 and then shards
them; for a checkpoint, parameters are gathered on the main process, which writes and hashes everything. Ours: shards
are read into an empty sharded model, and every process writes its own. Printed per process: the peak of anonymous
memory (smaps_rollup) during a stage above that before it. Pages of mapped files, which processes share and the kernel
can drop, are not in it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file
from torch import nn

from benchmarks.support.figures import stdout_for_figures
from benchmarks.support.real_sizes import TRANSFORMER
from edit_r1.shared.files import write_json
from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.machine.sharding import Sharder, whole
from edit_r1.trainer.models.unread import unread_transformer
from edit_r1.trainer.policy import checkpoint
from edit_r1.trainer.policy.base import COPIES
from edit_r1.trainer.policy.checkpoint import RandomStates, RunState
from edit_r1.trainer.policy.full import FullPolicy
from edit_r1.trainer.policy.manifest import entries_of
from edit_r1.trainer.tasks.group_sampler import SamplerState
from edit_r1.workbench.markdown import table
from edit_r1.worlds.shapes.demo import free_port

PROCESSES, WAYS, STAGES = 2, ("old", "new"), ("loading", "checkpoint")
_HEAD_WIDTH = 128
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Report:
    """What a process tells the parent: a stage begins or ends."""

    rank: int
    stage: str
    begins: bool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--blocks", type=int, default=3)
    arguments = parser.parse_args()
    with stdout_for_figures() as stdout, tempfile.TemporaryDirectory() as folder:
        pipeline = Path(folder)
        millions = _write_pipeline(pipeline, arguments.width, arguments.blocks) / 1e6
        found = {way: _measure(way, pipeline) for way in WAYS}
        rows = [
            (
                stage,
                way,
                *(f"{found[way][rank, stage][0] / 1e9:.2f}" for rank in range(PROCESSES)),
                _seconds(found[way], stage),
            )
            for stage in STAGES
            for way in WAYS
        ]
        headings = ("stage", "way", *(f"process {rank}: peak GB" for rank in range(PROCESSES)), "s")
        whole_model, shard = 4 * millions / 1e3, 4 * millions / 1e3 / PROCESSES
        sizes = f"{whole_model:.2f} GB in float32, of which a process has {shard:.2f} GB"
        print(f"{millions:.0f} M parameters: {sizes}\n", file=stdout)
        print(table(headings, rows), file=stdout)
    return 0


def _write_pipeline(directory: Path, width: int, blocks: int) -> int:
    """Write a pipeline's transformer; returns its number of parameters."""
    sizes = {
        "num_attention_heads": width // _HEAD_WIDTH,
        "num_layers": blocks,
        "num_single_layers": 2 * blocks,
    }
    model: Any = FluxTransformer2DModel.from_config({**TRANSFORMER, **sizes}).to(torch.bfloat16)
    model.save_pretrained(directory / "transformer")
    write_json(directory / "model_index.json", {"transformer": ["diffusers", "FluxTransformer2DModel"]})
    return sum(parameter.numel() for parameter in model.parameters())


def _measure(way: str, pipeline: Path) -> dict[tuple[int, str], tuple[float, float]]:
    """(rank, stage) -> (peak bytes above those before, seconds)."""
    context = torch.multiprocessing.get_context("spawn")
    reports: SimpleQueue[Report] = context.SimpleQueue()
    port = free_port()
    workers = [context.Process(target=_work, args=(rank, port, way, pipeline, reports)) for rank in range(PROCESSES)]
    for worker in workers:
        worker.start()
    open_stages: dict[int, tuple[str, float, float]] = {}
    found: dict[tuple[int, str], tuple[float, float]] = {}
    peaks: dict[int, float] = {}
    while any(worker.is_alive() for worker in workers):
        for rank in open_stages:
            peaks[rank] = max(peaks[rank], _anonymous_bytes(workers[rank].pid))
        while not reports.empty():
            told = reports.get()
            now = time.monotonic()
            if told.begins:
                peaks[told.rank] = before = _anonymous_bytes(workers[told.rank].pid)
                open_stages[told.rank] = (told.stage, before, now)
            else:
                stage, before, began = open_stages.pop(told.rank)
                found[told.rank, stage] = (peaks[told.rank] - before, now - began)
        time.sleep(0.005)
    if failed := [worker.exitcode for worker in workers if worker.exitcode]:
        raise RuntimeError(f"a process ended with status {failed[0]}")
    return found


def _anonymous_bytes(pid: int | None) -> float:
    """Anonymous memory of a process; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return 1024.0 * sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


def _work(rank: int, port: int, way: str, pipeline: Path, reports: SimpleQueue[Report]) -> None:
    """One process: load, take one optimizer step, write a checkpoint."""
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(PROCESSES), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(1)
    processes = Processes(600)

    def stage(name: str, work: Callable[[], Any]) -> Any:
        processes.wait()
        reports.put(Report(rank, name, begins=True))
        time.sleep(0.1)  # the parent reads this process's memory
        result = work()
        processes.wait()
        reports.put(Report(rank, name, begins=False))
        return result

    sharded = stage("loading", lambda: (_load_whole if way == "old" else _load_shards)(pipeline, processes))
    policy = FullPolicy(sharded, compute_dtype=torch.float32, sharder=_Done())
    optimizer = torch.optim.AdamW(policy.parameters())
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    directory = pipeline / f"checkpoints-{way}"
    save = _save_gathered if way == "old" else _save_shards
    stage("checkpoint", lambda: save(directory, policy, optimizer, processes))
    processes.close()


class _Done(Sharder):
    """For a transformer that is already sharded."""

    def __init__(self) -> None:
        pass

    def __call__(self, module: nn.Module, *, cast: bool = False) -> None:
        pass


def _load_whole(pipeline: Path, processes: Processes) -> Any:
    model: Any = FluxTransformer2DModel.from_pretrained(pipeline / "transformer", torch_dtype=torch.float32)
    Sharder(processes.device, processes.count, torch.float32)(model, cast=True)
    return model


def _load_shards(pipeline: Path, processes: Processes) -> Any:
    found = unread_transformer(str(pipeline), torch.float32)
    if found is None:
        raise ValueError(f"{pipeline} cannot be read by shards")
    model, files = found
    Sharder(processes.device, processes.count, torch.float32, {model: files})(model, cast=True)
    return model


def _save_gathered(directory: Path, policy: FullPolicy, optimizer: torch.optim.Optimizer, processes: Processes) -> None:
    directory.mkdir(exist_ok=True)
    parts = {name: policy.tensors(name) for name in COPIES}
    moments = optimizer.state_dict()["state"]
    parts_of_optimizer: dict[str, Any] = {
        f"{i}/{moment}": values[moment] for i, values in moments.items() for moment in _MOMENTS
    }
    for part, tensors in [*parts.items(), ("optimizer", parts_of_optimizer)]:
        gathered = {}
        for name, tensor in tensors.items():
            one = whole(tensor)
            if processes.is_main:
                gathered[name] = one.clone()
        if processes.is_main:
            save_file(gathered, directory / f"{part}.safetensors")
    if processes.is_main:
        entries_of(directory, sorted(directory.iterdir()))


def _save_shards(directory: Path, policy: FullPolicy, optimizer: torch.optim.Optimizer, processes: Processes) -> None:
    checkpoint.save(
        directory,
        policy,
        optimizer,
        RunState(epoch=1, optimizer_steps=1, sampler=SamplerState(0, 0, ()), seconds=0.0),
        random_states=RandomStates({}),
        config_yaml="",
        keep=1,
        processes=processes,
    )


def _seconds(found: dict[tuple[int, str], tuple[float, float]], stage: str) -> str:
    return f"{max(found[rank, stage][1] for rank in range(PROCESSES)):.1f}"


if __name__ == "__main__":
    sys.exit(main())
