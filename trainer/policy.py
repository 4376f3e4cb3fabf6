"""The policy and its copies: adapters `default`, `old`, `ema` in one transformer; the reference is no adapter at all.

Enters: a model family's transformer. Leaves: the trained parameters, and a switch for whose velocity is computed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, get_args

import torch
from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from shared.errors import CheckpointError, ConfigError

AdapterName = Literal["default", "old", "ema"]
PolicyName = Literal["default", "old", "ema", "reference"]
ADAPTERS: tuple[AdapterName, ...] = get_args(AdapterName)


class LoraPolicy:
    """LoRA adapters on a frozen transformer. All three start equal, at the reference (B = 0)."""

    def __init__(self, transformer: nn.Module, *, rank: int, alpha: float, targets: Sequence[str], seed: int) -> None:
        """Add the adapters; `seed` draws the gaussian A matrices. Raises ConfigError when no module has such a name."""
        self.lora_config = LoraConfig(
            r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights="gaussian"
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name in ADAPTERS:
                _add_adapter(transformer, self.lora_config, name)
        self._transformer = transformer
        self._layers = [module for module in transformer.modules() if isinstance(module, LoraLayer)]
        # Only in float32: a bfloat16 W would round most of a small B A away.
        self._merges = all(layer.get_base_layer().weight.dtype == torch.float32 for layer in self._layers)
        self._parameters = {name: _adapter_parameters(transformer, name) for name in ADAPTERS}
        for parameters in self._parameters.values():
            for parameter in parameters.values():
                # Adapters stay in float32 beside a bfloat16 base: their updates are far below its resolution.
                parameter.data = parameter.data.float()
        self._follow("old", 0.0)
        self._follow("ema", 0.0)
        self._activate("default")

    def parameters(self) -> list[nn.Parameter]:
        """The trained parameters (adapter `default`), in a fixed order."""
        return list(self._parameters["default"].values())

    def parameter_names(self) -> list[str]:
        """Names of `parameters()`, in the same order."""
        return list(self._parameters["default"])

    @contextmanager
    def use(self, name: PolicyName) -> Iterator[None]:
        """Forwards inside compute this policy's velocity, without gradients; afterwards `default` is back."""
        merged = name != "reference" and self._merges
        self._activate("reference" if merged else name)
        try:
            with torch.no_grad(), self._merged(name) if merged else nullcontext():
                yield
        finally:
            self._activate("default")

    def update_old(self, decay: float) -> None:
        """Old <- decay old + (1 - decay) default."""
        self._follow("old", decay)

    def update_ema(self, decay: float) -> None:
        """EMA <- decay EMA + (1 - decay) default."""
        self._follow("ema", decay)

    def state(self, name: AdapterName) -> dict[str, Tensor]:
        """A copy of an adapter's weights under PEFT's names, on the CPU."""
        state = get_peft_model_state_dict(self._transformer, adapter_name=name)
        return {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in state.items()}

    @torch.no_grad()
    def load_state(self, name: AdapterName, state: Mapping[str, Tensor]) -> None:
        """Overwrite an adapter's weights. Raises CheckpointError when names or shapes do not fit."""
        own = get_peft_model_state_dict(self._transformer, adapter_name=name)
        if own.keys() != state.keys() or any(own[key].shape != state[key].shape for key in own):
            raise CheckpointError(
                f"adapter {name!r} does not fit: was it trained with other lora.rank or lora.targets?"
            )
        for key, value in own.items():
            value.copy_(state[key])

    @contextmanager
    def _merged(self, name: PolicyName) -> Iterator[None]:
        """Put W + (alpha / rank) B A in W's place, and the very W back afterwards: a third less time a forward."""
        linears = [layer.get_base_layer() for layer in self._layers]
        originals = [linear.weight.data for linear in linears]
        try:
            for layer, linear, original in zip(self._layers, linears, originals, strict=True):
                linear.weight.data = original + layer.get_delta_weight(name)
            yield
        finally:
            for linear, original in zip(linears, originals, strict=True):
                linear.weight.data = original

    def _activate(self, name: PolicyName) -> None:
        for layer in self._layers:
            if name == "reference":
                layer.enable_adapters(False)
            else:
                layer.enable_adapters(True)
                layer.set_adapter(name)

    @torch.no_grad()
    def _follow(self, name: AdapterName, decay: float) -> None:
        for copy, parameter in zip(self._parameters[name].values(), self._parameters["default"].values(), strict=True):
            copy.lerp_(parameter, 1.0 - decay)


def _add_adapter(transformer: Any, config: LoraConfig, name: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several adapters are what we want
            transformer.add_adapter(config, adapter_name=name)
    except ValueError as error:
        raise ConfigError(f"lora.targets = {sorted(config.target_modules)}: {error}") from error


def _adapter_parameters(transformer: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """Parameters of one adapter under names without the adapter's own, sorted."""
    mark = f".{name}."
    found = {
        key.replace(mark, "."): parameter
        for key, parameter in transformer.named_parameters()
        if ".lora_" in key and mark in key
    }
    return dict(sorted(found.items()))
