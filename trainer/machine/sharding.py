"""FSDP2: weights are sharded over the processes; each layer is gathered for its forward pass and freed afterwards.

Modules are sharded in place: every parameter becomes a DTensor of which each process holds a part. Modules on the meta
device get their weights afterwards, so that no process ever holds more than its part.
Gradients are *summed* over the processes, as everywhere here: the loss is already divided by the samples of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from edit_r1.trainer.machine.shard_files import read_shards


class Sharder:
    """Shards modules over all processes."""

    def __init__(
        self,
        device: torch.device,
        num_processes: int,
        compute_dtype: torch.dtype,
        unread: Mapping[nn.Module, Sequence[Path]] = MappingProxyType({}),
    ) -> None:
        """compute_dtype: dtype that float32 weights are cast to for a forward pass; gradients are summed in float32.

        unread: modules on the meta device, with the files that contain their weights.
        """
        self._device, self._unread = device, unread
        self._mesh = init_device_mesh(device.type, (num_processes,))
        # Inputs are not cast here: families do that, and what they leave in float32 is meant to stay so.
        self._precision = MixedPrecisionPolicy(
            param_dtype=compute_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        )

    def __call__(self, module: nn.Module, *, cast: bool = False) -> None:
        """Shard a diffusers or transformers model block by block; parameters added later stay whole.

        cast: compute in `compute_dtype`; otherwise in the weights' own dtype. Raises CheckpointError when files cannot
        be read.
        """
        blocks = {*(getattr(module, "_repeated_blocks", None) or getattr(module, "_no_split_modules", None) or ())}
        precision = self._precision if cast else MixedPrecisionPolicy(cast_forward_inputs=False)
        for unit in [part for part in module.modules() if type(part).__name__ in blocks] + [module]:
            fully_shard(unit, mesh=self._mesh, mp_policy=precision)
        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.set_gradient_divide_factor(1.0)
                part.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sum
        if module in self._unread:
            _fill(module, self._unread[module], self._device)


def _fill(module: nn.Module, files: Sequence[Path], device: torch.device) -> None:
    """Give a sharded module on the meta device its weights; each process holds and reads only its shards."""
    tensors = {
        name: rejoined(torch.empty_like(local(tensor), device=device), tensor) if local(tensor).is_meta else tensor
        for name, tensor in module.state_dict().items()
    }
    read_shards(files, tensors)
    module.load_state_dict(tensors, assign=True)


def reshard(module: nn.Module) -> None:
    """Free gathered weights; needed after writing to shards, since the root keeps its own gathered after a forward."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def local(tensor: Tensor) -> Tensor:
    """The shard of this process, sharing its memory; a plain tensor is returned as is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The full tensor on every process; a collective for a DTensor."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def rejoined(part: Tensor, like: Tensor) -> Tensor:
    """Turn a local shard into the same kind of tensor as `like`."""
    if not isinstance(like, DTensor):
        return part
    return DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
