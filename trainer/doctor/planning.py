"""Inputs of `trainer.doctor.estimates`: the sizes of a model, of a configured run and of the available GPUs.

They are derived from a family (with or without weights) and a configuration.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from edit_r1.trainer.config import ModelConfig, TrainConfig, group_parts
from edit_r1.trainer.doctor.estimates import ModelShape, Plan
from edit_r1.trainer.doctor.machine import memory_bytes
from edit_r1.trainer.mathematics.schedule import num_trained_timesteps
from edit_r1.trainer.models.base import ModelFamily

_ASSUMED_TERAFLOPS = 400.0
_ASSUMED_SPAN = (0.5, 1.25)
"""Training sustains a fifth to a half of the 989 TFLOP/s on an H100's data sheet."""
_TEXT_MARKS = ("add_", "context", "txt_")
"""Substrings in the names of matrices applied to text tokens only."""
_ONCE_A_ROW = ("norm", "mod")
"""Substrings in the names of matrices applied to one vector per row."""


@dataclass(frozen=True)
class Gpus:
    """The GPUs (or the CPU) a run will use."""

    count: int
    gigabytes: float
    """Memory of each."""
    teraflops: float
    """Sustained in training by each, not the data-sheet figure."""
    kind: str = "GPU"
    rate: Literal["assumed", "given", "measured"] = "given"
    """Where `teraflops` comes from."""
    per_node: int = 8
    here: bool = False
    """Whether they are this machine's."""
    judge_gigabytes: float = 0.0
    """Memory of each that a judge takes."""

    @property
    def span(self) -> tuple[float, float]:
        """The slowest and the fastest rate that `teraflops` stands for."""
        slow, fast = _ASSUMED_SPAN if self.rate == "assumed" else (1.0, 1.0)
        return slow * self.teraflops, fast * self.teraflops

    def __str__(self) -> str:
        return f"{self.count} {self.kind}{'s' if self.count > 1 else ''}"


def this_machine(
    count: int | None, gigabytes: float | None, teraflops: float | None, judge_gigabytes: float | None
) -> Gpus:
    """The given figures, completed by this machine's GPUs, or by one H100 with 80 GB at 400 TFLOP/s.

    On a machine without GPUs and with no figures given, the CPU is assumed to train.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not found and (count, gigabytes, teraflops, judge_gigabytes) == (None, None, None, None):
        return Gpus(1, memory_bytes() / 1e9, _matmul_teraflops(), "CPU", rate="measured")
    own = torch.cuda.get_device_properties(0).total_memory / 1e9 if found else 80.0
    return Gpus(
        count or max(found, 1),
        gigabytes or own,
        teraflops or _ASSUMED_TERAFLOPS,
        rate="given" if teraflops else "assumed",
        per_node=found or 8,
        here=bool(found),
        judge_gigabytes=judge_gigabytes or 0.0,
    )


def _matmul_teraflops(size: int = 1024) -> float:
    matrix = torch.randn(size, size)
    matrix @ matrix
    started = time.perf_counter()
    matrix @ matrix
    return 2 * size**3 / (time.perf_counter() - started) / 1e12


def shape_of(family: ModelFamily, config: TrainConfig) -> ModelShape:
    """The sizes of a model, with or without weights."""
    transformer: Any = family.transformer
    blocks = [part for part in transformer.modules() if type(part).__name__ in transformer._repeated_blocks]
    seen = {"shared": 0, "image": 0, "text": 0}
    for block in blocks:
        matrices = {
            name: part.weight.numel()
            for name, part in block.named_modules()
            if isinstance(part, nn.Linear) and not any(mark in name for mark in _ONCE_A_ROW)
        }
        text = sum(size for name, size in matrices.items() if any(mark in name for mark in _TEXT_MARKS))
        seen["text"] += text
        seen["image" if text else "shared"] += sum(matrices.values()) - text
    targets = config.lora.targets or family.lora_targets
    adapted = [
        part
        for name, part in transformer.named_modules()
        if isinstance(part, nn.Linear) and any(name == target or name.endswith(f".{target}") for target in targets)
    ]
    return ModelShape(
        transformer=num_parameters(transformer),
        shared_weights=seen["shared"],
        image_weights=seen["image"],
        text_weights=seen["text"],
        largest_block=max(num_parameters(block) for block in blocks),
        num_blocks=len(blocks),
        width=transformer.config.num_attention_heads * transformer.config.attention_head_dim,
        text_encoders=sum(num_parameters(module) for module in family.text_encoders),
        vae=num_parameters(family.vae),
        decoder_numbers=family.decoder_numbers,
        encoder_numbers=family.encoder_numbers,
        adapter=0
        if config.tuning == "full"
        else sum(config.lora.rank * (part.in_features + part.out_features) for part in adapted),
    )


def plan_of(family: ModelFamily, config: TrainConfig, gpus: Gpus, num_sources: int) -> Plan:
    """The sizes of a run on GPUs, where `precision: auto` means bfloat16."""
    model, objective = config.model, config.grpo if config.algorithm == "flow_grpo" else config.nft
    compute_bytes = 4 if model.precision == "float32" else 2
    evaluated = config.evaluation.batch_size if config.data.held_out else 0
    tasks_at_once = max(config.rollout.batch_groups, evaluated)
    candidates = config.rollout.batch_groups * math.ceil(config.group_size / group_parts(config, gpus.count))
    rollout_branches, evaluation_branches = (
        _num_branches(config.rollout.true_cfg),
        _num_branches(config.evaluation_true_cfg),
    )
    return Plan(
        num_gpus=gpus.count,
        gpus_per_node=min(gpus.count, gpus.per_node),
        judge_bytes=gpus.judge_gigabytes * 1e9,
        bytes_per_weight=1.05 if model.quantization == "int8" else compute_bytes,
        compute_bytes=compute_bytes,
        full=config.tuning == "full",
        sharded=model.sharding == "fsdp" and gpus.count > 1,
        offloads_text=model.text_encoders == "offload",
        checkpoints=model.gradient_checkpointing,
        image_tokens=math.prod(family.grid((model.width, model.height))) * (1 + num_sources),
        text_tokens=family.max_text_tokens,
        decoded_pixels=_pixels_at_once(model, max(candidates, evaluated)),
        encoded_pixels=_pixels_at_once(model, tasks_at_once),
        generated_rows=max(candidates * rollout_branches, evaluated * evaluation_branches),
        update_rows=config.micro_batch_size,
        groups=config.groups_per_epoch,
        group_size=config.group_size,
        rollout_steps=config.rollout.steps,
        rollout_branches=rollout_branches,
        trained_timesteps=num_trained_timesteps(config.rollout.steps, config.trained_timesteps),
        forwards_without_gradient=1 + (objective.kl_weight > 0),
    )


def _num_branches(true_cfg: float | None) -> int:
    """Rows of a forward pass per edit when sampling with this scale of true classifier-free guidance."""
    return 1 if true_cfg is None else 2


def _pixels_at_once(model: ModelConfig, num_images: int) -> int:
    one = model.width * model.height
    return min(num_images * one, max(one, model.vae_pixels))


def savings(config: TrainConfig, num_gpus: int) -> Iterator[tuple[str, TrainConfig]]:
    """Changes that save memory, cheapest in time first; each builds on the previous ones."""
    model = config.model

    def with_model(**values: object) -> TrainConfig:
        nonlocal config, model
        model = model.model_copy(update=values)
        config = config.model_copy(update={"model": model})
        return config

    one_image, candidates = model.width * model.height, config.rollout.batch_groups * config.group_size
    # As many tasks as an evaluation can edit at once with the rows of a rollout.
    tasks = candidates * _num_branches(config.rollout.true_cfg) // _num_branches(config.evaluation_true_cfg)
    if model.vae_pixels >= 2 * one_image:
        yield f"model.vae_pixels={one_image}", with_model(vae_pixels=one_image)
    if config.data.held_out and config.evaluation.batch_size > tasks:
        config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"batch_size": tasks})})
        yield f"evaluation.batch_size={tasks}", config
    if model.text_encoders == "resident" and not (model.sharding == "fsdp" and num_gpus > 1):
        yield "model.text_encoders=offload", with_model(text_encoders="offload")
    if not model.gradient_checkpointing:
        yield "model.gradient_checkpointing=true", with_model(gradient_checkpointing=True)
    while config.micro_batch_size > 1:
        config = config.model_copy(update={"micro_batch_size": config.micro_batch_size // 2})
        yield f"micro_batch_size={config.micro_batch_size}", config
    if config.rollout.batch_groups > 1:
        config = config.model_copy(update={"rollout": config.rollout.model_copy(update={"batch_groups": 1})})
        yield "rollout.batch_groups=1", config
    if num_gpus > 1 and model.sharding == "none":
        yield "model.sharding=fsdp", with_model(sharding="fsdp")
    if config.tuning == "full":
        config = config.model_copy(update={"tuning": "lora"})
        yield "tuning=lora", config
    if model.quantization == "none" and model.sharding == "none":
        yield "model.quantization=int8", with_model(quantization="int8")


def num_parameters(module: nn.Module) -> int:
    """Number of parameters, regardless of precision."""
    return sum(parameter.numel() for parameter in module.parameters())
