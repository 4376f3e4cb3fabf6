"""FSDP2: weights spread over the processes, each layer gathered for its forward and dropped again.

Enters: modules on the CPU. Leaves: the same modules, every parameter a DTensor of which each process holds a part.
Gradients are *summed* over the processes, as everywhere here: the loss is divided by the samples of all.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


class Sharder:
    """Shards modules over all processes."""

    def __init__(self, device: torch.device, num_processes: int, compute_dtype: torch.dtype) -> None:
        """compute_dtype: what float32 weights are cast to for a forward; gradients are summed in float32."""
        self._device = device
        self._mesh = init_device_mesh(device.type, (num_processes,))
        # Inputs are not cast here: families do that, and what they leave in float32 is meant to be.
        self._precision = MixedPrecisionPolicy(
            param_dtype=compute_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        )

    def __call__(
        self, module: nn.Module, *, cast: bool = False, whole: AbstractSet[nn.Parameter] = frozenset()
    ) -> None:
        """Shard a diffusers or transformers model block by block.

        cast: compute in `compute_dtype`; else in the dtype that the weights have. whole: parameters that every process
        keeps; they are moved to the device.
        """
        blocks = {*(getattr(module, "_repeated_blocks", None) or getattr(module, "_no_split_modules", None) or ())}
        precision = self._precision if cast else MixedPrecisionPolicy(cast_forward_inputs=False)
        for unit in [part for part in module.modules() if type(part).__name__ in blocks] + [module]:
            fully_shard(
                unit,
                mesh=self._mesh,
                mp_policy=precision,
                ignored_params={parameter for parameter in unit.parameters() if parameter in whole},
            )
        for parameter in whole:
            parameter.data = parameter.data.to(self._device)
        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.set_gradient_divide_factor(1.0)
                part.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sum


def reshard(module: nn.Module) -> None:
    """Drop gathered weights; needed after shards were written to, since the root keeps its own after a forward."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def local(tensor: Tensor) -> Tensor:
    """The part that this process has, sharing its memory; a plain tensor is its own."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of it, on every process; a collective for a DTensor."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def rejoined(part: Tensor, like: Tensor) -> Tensor:
    """A part made into the kind of tensor that `like` is."""
    if not isinstance(like, DTensor):
        return part
    return DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def spread(tensor: Tensor, like: Tensor) -> Tensor:
    """All of a tensor, which every process has, made into the kind of tensor that `like` is."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
