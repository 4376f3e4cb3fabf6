"""Full fine-tuning: all transformer weights are trained; old, EMA and reference are copies, sharded the same way.

Weights are float32; forward passes run in the model's precision. A copy is used by swapping its contents with the
weights, so no second set is ever gathered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edit_r1.trainer.machine.sharding import Sharder, local, rejoined, reshard
from edit_r1.trainer.policy.base import CopyName, Policy, PolicyName


class FullPolicy(Policy):
    """All weights of a transformer. The copies are initialised to them."""

    weights_name = "diffusion_pytorch_model.safetensors"
    prefix = ""
    mismatch = "weights {name!r} do not match the model at model.path"

    def __init__(self, transformer: nn.Module, *, compute_dtype: torch.dtype, sharder: Sharder | None = None) -> None:
        """compute_dtype: for forward passes; the weights must be float32. sharder: shards weights and copies."""
        transformer.requires_grad_(True)
        if sharder is not None:
            sharder(transformer, cast=True)
        elif compute_dtype != torch.float32:
            device = next(transformer.parameters()).device
            transformer.forward = torch.autocast(device.type, compute_dtype)(transformer.forward)
        self.sharded = self.holds_shards = sharder is not None
        self._transformer: Any = transformer  # diffusers ships no types
        # Listed once: while gathered, a module exposes different parameters.
        self._parameters = dict(transformer.named_parameters())
        names: tuple[PolicyName, ...] = ("old", "ema", "reference")
        self._copies = {name: [local(one.data).clone() for one in self._parameters.values()] for name in names}

    def named_parameters(self) -> Mapping[str, nn.Parameter]:
        """All weights."""
        return self._parameters

    @contextmanager
    def use(self, name: PolicyName) -> Iterator[None]:
        """Swap contents with a copy; see Policy.use."""
        self._exchange(name)
        try:
            with torch.no_grad():
                yield
        finally:
            self._exchange(name)

    def tensors(self, name: CopyName) -> dict[str, Tensor]:
        """See Policy.tensors."""
        reshard(self._transformer)  # weights that are still gathered would hide what is written to shards
        if name == "default":
            return {key: parameter.detach() for key, parameter in self._parameters.items()}
        return {
            key: rejoined(copy, parameter)
            for (key, parameter), copy in zip(self._parameters.items(), self._copies[name], strict=True)
        }

    def metadata(self) -> dict[str, str]:
        """Empty: full weights need no metadata."""
        return {}

    def write_config(self, directory: Path) -> None:
        """Write the transformer's config.json, so that its class's from_pretrained accepts the directory."""
        self._transformer.save_config(directory)

    @torch.no_grad()
    def _follow(self, name: CopyName, decay: float) -> None:
        for copy, parameter in zip(self._copies[name], self._parameters.values(), strict=True):
            copy.lerp_(local(parameter), 1.0 - decay)

    @torch.no_grad()
    def _exchange(self, name: PolicyName) -> None:
        if name == "default":
            return
        for copy, parameter in zip(self._copies[name], self._parameters.values(), strict=True):
            own = local(parameter)
            kept = own.clone()
            own.copy_(copy)
            copy.copy_(kept)
        reshard(self._transformer)
