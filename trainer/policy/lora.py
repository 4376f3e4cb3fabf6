"""LoRA: adapters `default`, `old` and `ema` on one frozen transformer; the reference uses no adapter."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from edit_r1.shared.errors import ConfigError
from edit_r1.trainer.machine.sharding import Sharder
from edit_r1.trainer.policy.base import COPIES, CopyName, Policy, PolicyName


class LoraPolicy(Policy):
    """LoRA adapters on a frozen transformer. All three start equal to the reference (B = 0)."""

    weights_name = "pytorch_lora_weights.safetensors"
    prefix = "transformer."  # diffusers' name of the component an adapter belongs to
    mismatch = "adapter {name!r} does not match: was it trained with a different lora.rank or lora.targets?"

    def __init__(
        self,
        transformer: nn.Module,
        *,
        rank: int,
        alpha: float,
        targets: Sequence[str],
        seed: int,
        sharder: Sharder | None = None,
        merges: bool = True,
    ) -> None:
        """Add the adapters; `seed` initialises the Gaussian A matrices. Raises ConfigError when no target matches.

        sharder: shards the frozen weights; every process has whole adapters. merges: whether the frozen weights are
        plain tensors into which an adapter can be merged (not quantized).
        """
        self.lora_config = LoraConfig(
            r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights="gaussian"
        )
        if sharder is not None:
            sharder(transformer)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name in COPIES:
                _add_adapter(transformer, self.lora_config, name)
        self._transformer = transformer
        self._layers = [module for module in transformer.modules() if isinstance(module, LoraLayer)]
        # Only in float32: adding a small B A to a bfloat16 W would round most of it away.
        self.merges = (
            merges
            and sharder is None
            and all(layer.get_base_layer().weight.dtype == torch.float32 for layer in self._layers)
        )
        self._parameters = {name: _adapter_parameters(transformer, name) for name in COPIES}
        for parameters in self._parameters.values():
            for parameter in parameters.values():
                # Adapters stay in float32 even with a bfloat16 base: their updates are far below its resolution.
                parameter.data = parameter.data.float()
        self._follow("old", 0.0)
        self._follow("ema", 0.0)
        for layer in self._layers:
            layer.set_adapter("default")
        self.sharded = sharder is not None
        self.holds_shards = False

    def named_parameters(self) -> Mapping[str, nn.Parameter]:
        """Parameters of adapter `default`."""
        return self._parameters["default"]

    @contextmanager
    def use(self, name: PolicyName) -> Iterator[None]:
        """Inside the block, forward passes use this policy, without gradients; afterwards `default` is active again."""
        self._enable(name != "reference" and not self.merges)
        try:
            with torch.no_grad(), self._in_place(name):
                yield
        finally:
            self._enable(True)

    def tensors(self, name: CopyName) -> dict[str, Tensor]:
        """An adapter's weights under PEFT's names; see Policy.tensors."""
        return {key: parameter.detach() for key, parameter in self._parameters[name].items()}

    def metadata(self) -> dict[str, str]:
        """The adapter's configuration in the form diffusers expects, so that it loads at full strength."""
        config = {self.prefix + key: _jsonable(value) for key, value in self.lora_config.to_dict().items()}
        return {LORA_ADAPTER_METADATA_KEY: json.dumps(config, sort_keys=True)}

    def write_config(self, directory: Path) -> None:
        """No-op: the configuration is stored in the weights' metadata."""

    def _in_place(self, name: PolicyName) -> AbstractContextManager[None]:
        """Put a copy where forward passes use it.

        Merged, W becomes W + (alpha / rank) B A, which makes them a third faster. Otherwise adapter `default` is lent
        the copy's weights: activating the copy would need compiled variants of its own.
        """
        if name == "reference":
            return nullcontext()
        if not self.merges:
            return _replaced(self.parameters(), (copy.data for copy in self._parameters[name].values()))
        weights = [layer.get_base_layer().weight for layer in self._layers]
        merged = (w.data + one.get_delta_weight(name) for w, one in zip(weights, self._layers, strict=True))
        return _replaced(weights, merged)

    def _enable(self, enabled: bool) -> None:
        for layer in self._layers:
            layer.enable_adapters(enabled)

    @torch.no_grad()
    def _follow(self, name: CopyName, decay: float) -> None:
        for copy, parameter in zip(self._parameters[name].values(), self._parameters["default"].values(), strict=True):
            copy.lerp_(parameter, 1.0 - decay)


@contextmanager
def _replaced(tensors: Sequence[Tensor], contents: Iterable[Tensor]) -> Iterator[None]:
    """Inside the block, the tensors have these contents."""
    originals = [tensor.data for tensor in tensors]
    try:
        for tensor, content in zip(tensors, contents, strict=True):
            tensor.data = content
        yield
    finally:
        for tensor, original in zip(tensors, originals, strict=True):
            tensor.data = original


def _add_adapter(transformer: Any, config: LoraConfig, name: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several adapters are intended
            transformer.add_adapter(config, adapter_name=name)
    except ValueError as error:
        raise ConfigError(f"lora.targets = {sorted(config.target_modules)}: {error}") from error


def _adapter_parameters(transformer: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """Parameters of one adapter, sorted, under names without the adapter name."""
    mark = f".{name}."
    found = {
        key.replace(mark, "."): parameter
        for key, parameter in transformer.named_parameters()
        if ".lora_" in key and mark in key
    }
    return dict(sorted(found.items()))


def _jsonable(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else value
