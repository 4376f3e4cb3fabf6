"""Checkpoints: everything a run needs to continue as if it had never stopped.

    RUN_DIR/checkpoints/step-N/                     N = epochs finished
        policy/ old/ ema/pytorch_lora_weights.safetensors   for diffusers' pipe.load_lora_weights, at full strength;
            or diffusion_pytorch_model.safetensors and config.json, for the transformer's from_pretrained
        optimizer.safetensors  rng.safetensors  state.json  config.yaml
        manifest.json                               size and SHA-256 of every file, to detect damage

A checkpoint is written under a temporary name and then renamed, so it is either complete or absent. No pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from edit_r1.shared.errors import CheckpointError
from edit_r1.shared.files import write_json
from edit_r1.trainer.config import CONFIG_NAME
from edit_r1.trainer.machine.sharding import spread, whole
from edit_r1.trainer.policy.base import CopyName, Policy
from edit_r1.trainer.tasks.group_sampler import SamplerState

_FOLDERS: dict[CopyName, str] = {"default": "policy", "old": "old", "ema": "ema"}
_MANIFEST = "manifest.json"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class RunState(BaseModel):
    """The counters of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    """Epochs finished."""
    optimizer_steps: int
    """Optimizer steps taken so far."""
    sampler: SamplerState
    num_processes: int = 1
    """Number of processes that wrote it; a run may resume with a different number."""
    seconds: float
    """Wall time spent so far, including before resumes."""


@dataclass(frozen=True)
class RandomStates:
    """Torch's generator state of each process; all noise used in training is seeded by `trainer.machine.seeding`."""

    by_rank: Mapping[int, Tensor]
    """rank -> uint8 state of the CPU generator."""


def save(
    directory: Path,
    policy: Policy,
    optimizer: Optimizer,
    state: RunState,
    *,
    random_states: RandomStates,
    config_yaml: str,
    keep: int,
    write: bool = True,
) -> Path:
    """Write step-N atomically and delete all but the `keep` newest checkpoints; returns its path.

    All processes must call it, because weights may be sharded; exactly one with `write`.
    """
    target = directory / f"step-{state.epoch}"
    draft = directory / f".writing-step-{state.epoch}"
    if write:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
    for name, folder in _FOLDERS.items():
        save_weights(draft / folder, policy, name, write=write)
    moments = _optimizer_tensors(policy, optimizer, keep=write)
    if not write:
        return target
    save_file(moments, draft / "optimizer.safetensors")
    save_file({f"rank-{rank}": value for rank, value in random_states.by_rank.items()}, draft / "rng.safetensors")
    (draft / "state.json").write_text(state.model_dump_json(indent=2), encoding="utf-8")
    (draft / CONFIG_NAME).write_text(config_yaml, encoding="utf-8")
    _write_manifest(draft)
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
    _sync(directory)
    _rotate(directory, state.epoch, keep)
    return target


def save_weights(directory: Path, policy: Policy, name: CopyName, *, write: bool = True) -> None:
    """Write one copy in diffusers' format. All processes must call it, one with `write`."""
    state = policy.state(name, keep=write)
    if write:
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {policy.prefix + key: value for key, value in state.items()}
        save_file(tensors, directory / policy.weights_name, metadata={"format": "pt", **policy.metadata()})
        policy.write_config(directory)


def restore(checkpoint: Path, policy: Policy, optimizer: Optimizer, rank: int) -> RunState:
    """Restore everything bit for bit. Raises CheckpointError when the checkpoint does not match the run."""
    for name, folder in _FOLDERS.items():
        tensors = load_file(checkpoint / folder / policy.weights_name)
        policy.load_state(name, {key.removeprefix(policy.prefix): value for key, value in tensors.items()})
    _restore_optimizer(load_file(checkpoint / "optimizer.safetensors"), policy, optimizer)
    random_states = load_file(checkpoint / "rng.safetensors")
    if f"rank-{rank}" in random_states:  # a run may resume with more processes than it had
        torch.set_rng_state(random_states[f"rank-{rank}"])
    return RunState.model_validate_json((checkpoint / "state.json").read_text(encoding="utf-8"))


def newest_whole(directory: Path, tell: Callable[[str], None]) -> Path | None:
    """The newest undamaged checkpoint, or None; `tell` is called for each damaged one that is skipped."""
    for checkpoint in sorted(_steps(directory), key=_number, reverse=True):
        fault = damage(checkpoint)
        if fault is None:
            return checkpoint
        tell(f"skipping damaged checkpoint {checkpoint}: {fault}")
    return None


def damage(checkpoint: Path) -> str | None:
    """Short description of a checkpoint's damage; None when it is complete."""
    try:
        manifest = json.loads((checkpoint / _MANIFEST).read_text(encoding="utf-8"))
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return f"{_MANIFEST} is missing or unreadable ({type(error).__name__})"
    for name, (num_bytes, digest) in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != num_bytes:
            return f"{name} has {path.stat().st_size:,} of {num_bytes:,} bytes"
        if _digest(path) != digest:
            return f"{name} does not match its SHA-256 in {_MANIFEST}"
    return None


def _optimizer_tensors(policy: Policy, optimizer: Optimizer, *, keep: bool) -> dict[str, Tensor]:
    """AdamW's moments as `parameter name/moment`; empty before the first step, and unless `keep`."""
    names, tensors = list(policy.named_parameters()), {}
    for index, values in optimizer.state_dict()["state"].items():
        for moment in _MOMENTS:
            gathered = whole(torch.as_tensor(values[moment]))
            if keep:
                tensors[f"{names[index]}/{moment}"] = gathered.cpu().contiguous()
    return tensors


def _restore_optimizer(tensors: Mapping[str, Tensor], policy: Policy, optimizer: Optimizer) -> None:
    parameters = policy.named_parameters()
    index = {name: i for i, name in enumerate(parameters)}
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        name, _, moment = key.rpartition("/")
        if name not in index:
            raise CheckpointError(f"optimizer.safetensors has a parameter {name!r} that this policy lacks")
        whole_value = moment == "step"
        state.setdefault(index[name], {})[moment] = value if whole_value else spread(value, parameters[name])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _write_manifest(directory: Path) -> None:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    manifest = {
        str(path.relative_to(directory)): {"bytes": path.stat().st_size, "sha256": _digest(path)} for path in files
    }
    write_json(directory / _MANIFEST, manifest)
    for path in [*files, directory / _MANIFEST]:
        _sync(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Flush to disk; otherwise a rename may become durable before the contents."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rotate(directory: Path, newest: int, keep: int) -> None:
    """Keep the `keep` newest up to `newest`; later ones are left over from before the run was resumed."""
    up_to_now = sorted((step for step in _steps(directory) if _number(step) <= newest), key=_number)
    for checkpoint in {*_steps(directory)} - {*up_to_now[-keep:]}:
        shutil.rmtree(checkpoint)


def _steps(directory: Path) -> Sequence[Path]:
    return [path for path in directory.glob("step-*") if re.fullmatch(r"step-\d+", path.name)]


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))
