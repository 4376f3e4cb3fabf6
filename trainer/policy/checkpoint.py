"""Checkpoints: everything a run needs to continue as if it had never stopped.

    RUN_DIR/checkpoints/step-N/                     N = epochs finished
        policy/ old/ ema/pytorch_lora_weights.safetensors   for diffusers' pipe.load_lora_weights, at full strength;
            or diffusion_pytorch_model.safetensors and config.json, for the transformer's from_pretrained
        optimizer.safetensors  rng.safetensors  state.json  config.yaml
        manifest.json                               size and SHA-256 of every file, to detect damage

Where the trained weights themselves are sharded (full fine-tuning with FSDP), every process writes its own shards,
policy/ old/ ema/ optimizer/shard-R-....safetensors, and no process ever holds the whole model; `edit-r1 export` turns
them into diffusers' format. Any number of processes can resume from either form.
A checkpoint is written under a temporary name and then renamed, so it is either complete or absent. No pickle.
"""

from __future__ import annotations

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
from edit_r1.trainer.config import CONFIG_NAME
from edit_r1.trainer.machine.processes import Processes
from edit_r1.trainer.machine.shard_files import read_shards, shard_files, stored_tensors, write_shards, writer_of
from edit_r1.trainer.policy.base import CopyName, Policy
from edit_r1.trainer.policy.manifest import Entry, damage, entries_of, sync, write_manifest
from edit_r1.trainer.tasks.group_sampler import SamplerState

_FOLDERS: dict[CopyName, str] = {"default": "policy", "old": "old", "ema": "ema"}
_OPTIMIZER = "optimizer"
_DRAFT = ".writing-"
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
    processes: Processes,
) -> Path:
    """Write step-N atomically and delete all but the `keep` newest checkpoints; returns its path.

    All processes must call it. Raises CheckpointError on all of them when one cannot write; the draft is then deleted.
    """
    target, draft = directory / f"step-{state.epoch}", directory / f"{_DRAFT}step-{state.epoch}"

    def write() -> dict[str, Entry]:
        if policy.holds_shards:
            _write_shards(draft, policy, optimizer, configs=processes.is_main)
        elif processes.is_main:
            _write_whole(draft, policy, optimizer)
        if processes.is_main:
            save_file({f"rank-{rank}": one for rank, one in random_states.by_rank.items()}, draft / "rng.safetensors")
            (draft / "state.json").write_text(state.model_dump_json(indent=2), encoding="utf-8")
            (draft / CONFIG_NAME).write_text(config_yaml, encoding="utf-8")
        return entries_of(draft, _files_of(draft, processes.rank))

    def publish() -> None:
        if processes.is_main:
            write_manifest(draft, {name: entry for part in entries for name, entry in part.items()})
            shutil.rmtree(target, ignore_errors=True)
            draft.rename(target)
            sync(directory)
            _rotate(directory, state.epoch, keep)

    try:
        processes.all_or_none(lambda: _begin(directory, draft) if processes.is_main else None)
        entries = processes.all_or_none(write)
        processes.all_or_none(publish)
    except CheckpointError as error:
        if processes.is_main:
            shutil.rmtree(draft, ignore_errors=True)
        raise CheckpointError(f"cannot write {target}: {error}") from error
    return target


def save_weights(directory: Path, policy: Policy, name: CopyName) -> None:
    """Write one copy of unsharded weights in diffusers' format."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {policy.prefix + key: value for key, value in policy.state(name).items()}
    save_file(tensors, directory / policy.weights_name, metadata={"format": "pt", **policy.metadata()})
    policy.write_config(directory)


def restore(checkpoint: Path, policy: Policy, optimizer: Optimizer, rank: int) -> RunState:
    """Restore everything bit for bit; all processes must call it, and each reads only its shards.

    Raises CheckpointError when the checkpoint does not match the run.
    """
    for name, folder in _FOLDERS.items():
        _restore_weights(checkpoint / folder, policy, name)
    _restore_optimizer(checkpoint, policy, optimizer)
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


def _begin(directory: Path, draft: Path) -> None:
    """Create an empty draft; what earlier attempts left behind is deleted."""
    for left in directory.glob(f"{_DRAFT}*"):
        shutil.rmtree(left)
    draft.mkdir(parents=True)


def _write_whole(draft: Path, policy: Policy, optimizer: Optimizer) -> None:
    for name, folder in _FOLDERS.items():
        save_weights(draft / folder, policy, name)
    moments = {name: value.cpu().contiguous() for name, value in _moments(policy, optimizer).items()}
    save_file(moments, draft / f"{_OPTIMIZER}.safetensors")


def _write_shards(draft: Path, policy: Policy, optimizer: Optimizer, *, configs: bool) -> None:
    for name, folder in _FOLDERS.items():
        write_shards(draft / folder, policy.tensors(name))
        if configs:
            policy.write_config(draft / folder)
    write_shards(draft / _OPTIMIZER, _moments(policy, optimizer))


def _files_of(draft: Path, rank: int) -> list[Path]:
    """The files of a draft that this process wrote."""
    return [path for path in sorted(draft.rglob("*")) if path.is_file() and writer_of(path) == rank]


def _moments(policy: Policy, optimizer: Optimizer) -> dict[str, Tensor]:
    """AdamW's moments as `parameter name/moment`, sharing its memory; empty before the first step."""
    names = list(policy.named_parameters())
    return {
        f"{names[index]}/{moment}": torch.as_tensor(values[moment])
        for index, values in optimizer.state_dict()["state"].items()
        for moment in _MOMENTS
    }


def _restore_weights(directory: Path, policy: Policy, name: CopyName) -> None:
    files = shard_files(directory) or [directory / policy.weights_name]
    stored = {key: value.shape for key, value in stored_tensors(files).items()}
    into = {policy.prefix + key: value for key, value in policy.tensors(name).items()}
    if stored != {key: value.shape for key, value in into.items()}:
        raise CheckpointError(policy.mismatch.format(name=name))
    read_shards(files, into)


def _restore_optimizer(checkpoint: Path, policy: Policy, optimizer: Optimizer) -> None:
    whole = checkpoint / f"{_OPTIMIZER}.safetensors"
    files = [whole] if whole.exists() else shard_files(checkpoint / _OPTIMIZER)
    parameters = policy.named_parameters()
    tensors, state = {}, dict[int, dict[str, Any]]()
    index = {name: i for i, name in enumerate(parameters)}
    for key, stored in stored_tensors(files).items():
        name, _, moment = key.rpartition("/")
        if name not in index:
            raise CheckpointError(f"{checkpoint / _OPTIMIZER} has a parameter {name!r} that this policy lacks")
        own = parameters[name].detach()
        tensors[key] = torch.empty_like(stored, device="cpu") if moment == "step" else torch.empty_like(own)
        state.setdefault(index[name], {})[moment] = tensors[key]
    read_shards(files, tensors)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _rotate(directory: Path, newest: int, keep: int) -> None:
    """Keep the `keep` newest up to `newest`; later ones are left over from before the run was resumed."""
    up_to_now = sorted((step for step in _steps(directory) if _number(step) <= newest), key=_number)
    for checkpoint in {*_steps(directory)} - {*up_to_now[-keep:]}:
        shutil.rmtree(checkpoint)


def _steps(directory: Path) -> Sequence[Path]:
    return [path for path in directory.glob("step-*") if re.fullmatch(r"step-\d+", path.name)]


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))
