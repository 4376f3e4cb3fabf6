"""The trainer at real size: rollout and update of a few groups for FLUX.1-Kontext (12 B), LoRA with random weights.

    python -m benchmarks.kontext [--model DIRECTORY] [--groups 2] [--size 512] [--tflops 990] [key=value ...]

For a GPU. The measurements do not depend on the weights' values, so none are downloaded: `--model` takes any pipeline
directory with configurations (default: `benchmarks.support.real_sizes`). Prints seconds by stage, peak memory compared
with the estimate of `edit-r1 doctor`, and model FLOPs utilisation: the arithmetic that the method requires (no
recomputation) over `--tflops`, the GPU's dense bfloat16 rate on its data sheet (H200: 990).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.support.real_sizes import write_kontext
from edit_r1.shared.config import load_config
from edit_r1.trainer.config import TrainConfig
from edit_r1.trainer.doctor.estimates import epoch_flops, memory
from edit_r1.trainer.doctor.planning import Gpus, plan_of, shape_of
from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.mathematics.sizes import one_size
from edit_r1.trainer.models.base import ModelFamily
from edit_r1.trainer.rollout.rollout import roll_out
from edit_r1.trainer.run.components import build_loss, build_optimizer, build_policy, load_family
from edit_r1.trainer.tasks.task_list import read_task_list
from edit_r1.trainer.types import TaskGroup
from edit_r1.trainer.update.batching import assign_steps, build_batch
from edit_r1.trainer.update.update import update
from edit_r1.worlds.shapes.demo import HERE


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--tflops", type=float, default=990.0)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or write_kontext(Path(folder) / "kontext")
        config = load_config(
            TrainConfig,
            Path("examples/flux_kontext_nft.yaml"),
            [
                f"model.path={model}",
                f"run_dir={folder}/run",
                f"data.train={HERE}/data/train.jsonl",
                f"model.width={arguments.size}",
                f"model.height={arguments.size}",
                f"groups_per_epoch={arguments.groups}",
                *arguments.overrides,
            ],
        )
        measure(config, arguments.tflops)
    return 0


def measure(config: TrainConfig, tflops: float) -> None:
    """Runs one warm-up and one measured pass over the groups; prints the results."""
    processes = Processes(600)
    device = processes.device
    family = with_random_weights(config, device)
    policy = build_policy(config, family, None)
    loss, optimizer = build_loss(config, family, policy), build_optimizer(config, policy)
    size = (config.model.width, config.model.height)
    groups = [
        TaskGroup(0, index, task)
        for index, task in enumerate(read_task_list(config.data.train)[: config.groups_per_epoch])
    ]
    seconds: dict[str, float] = {}
    for _ in range(2):  # the first pass is a warm-up
        start = _now(device)
        rollouts = list(
            roll_out(
                family,
                policy,
                groups,
                group_size=config.group_size,
                num_steps=config.rollout.steps,
                noise_level=None,
                choose_size=one_size(size),
                batch_groups=config.rollout.batch_groups,
                seed=0,
                processes=processes,
            )
        )
        seconds["rollout"] = _now(device) - start
        worth = torch.rand(len(groups), config.group_size, dtype=torch.float64)
        steps = assign_steps(worth, torch.ones(len(groups), dtype=torch.bool), 1, torch.Generator().manual_seed(0))
        batch = build_batch(rollouts, worth, steps, num_optimizer_steps=1, groups_per_unit=config.rollout.batch_groups)
        start = _now(device)
        update(
            policy,
            optimizer,
            batch,
            loss,
            micro_batch_size=config.micro_batch_size,
            max_grad_norm=1.0,
            processes=processes,
            on_step=lambda: None,
        )
        seconds["update"] = _now(device) - start
    _print(config, family, seconds, tflops)


def with_random_weights(config: TrainConfig, device: torch.device) -> ModelFamily:
    """The configuration's model with random weights, initialised on the device."""
    family = load_family(config, device, without_weights=True)
    for module in (family.transformer, family.vae, *family.text_encoders):
        dtype = torch.float32 if module is family.vae else family.dtype
        module.to_empty(device=device).to(dtype).requires_grad_(False).eval()
        for tensor in module.parameters():
            nn.init.normal_(tensor, std=0.02)
        for name, buffer in module.named_buffers():
            if name.endswith("position_ids"):  # not parameters: to_empty left them undefined
                buffer.copy_(torch.arange(buffer.shape[-1], device=device).expand_as(buffer))
    if config.model.gradient_checkpointing:
        transformer: Any = family.transformer  # diffusers ships no types
        transformer.enable_gradient_checkpointing()
    return family


def _print(config: TrainConfig, family: ModelFamily, seconds: dict[str, float], tflops: float) -> None:
    shape, plan = shape_of(family, config), plan_of(family, config, Gpus(1, 80.0, tflops), num_sources=1)
    # The loaded model contains three adapters in addition to its own weights.
    shape = dataclasses.replace(shape, transformer=shape.transformer - 3 * shape.adapter)
    useful = epoch_flops(shape, dataclasses.replace(plan, checkpoints=False))
    print("| stage | s | s per group | PFLOP | utilisation |\n| --- | --- | --- | --- | --- |")
    for name, flops in useful.items():
        share = flops / seconds[name] / (tflops * 1e12)
        print(
            f"| {name} | {seconds[name]:.1f} | {seconds[name] / config.groups_per_epoch:.2f} | {flops / 1e15:.3g} | "
            f"{share:.1%} |"
        )
    estimate = sum(memory(shape, plan).values()) / 1e9
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 1e9
        print(f"\npeak memory {peak:.1f} GB; edit-r1 doctor estimates {estimate:.1f} GB")
        print(torch.cuda.get_device_name())
    else:
        print(f"\nrun on a CPU; edit-r1 doctor estimates {estimate:.1f} GB of GPU memory")


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.monotonic()


if __name__ == "__main__":
    sys.exit(main())
