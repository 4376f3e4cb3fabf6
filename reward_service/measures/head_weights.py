"""A regression head from safetensors: linear layers with ReLU between them, of whatever sizes the file has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, float32, nn

from edit_r1.shared.errors import ConfigError


class Weights:
    """The tensors of a directory's *.safetensors, read when asked for. Raises ConfigError if there are none."""

    def __init__(self, directory: Path) -> None:
        self._files = sorted(directory.glob("*.safetensors"))
        self._where: dict[str, Path] = {}
        if not self._files:
            raise ConfigError(f"reward_head: no *.safetensors in {directory}")
        for path in self._files:
            try:
                with safe_open(path, "pt") as file:
                    self._where |= dict.fromkeys(file.keys(), path)
            except SafetensorError as error:
                raise ConfigError(f"reward_head: {path} cannot be read: {error}") from error

    def vocabulary_size(self) -> int:
        """Number of rows of the text embedding, which may differ from config.json after a token was added."""
        name = next((name for name in self._where if name.endswith("embed_tokens.weight")), None)
        if name is None:
            raise ConfigError(f"reward_head: no embed_tokens.weight in {self._files[0].parent}")
        with safe_open(self._where[name], "pt") as file:
            return int(file.get_slice(name).get_shape()[0])

    def head(self, prefix: str) -> nn.Sequential:
        """The head in float32. Raises ConfigError if there is none of this name, or its layers do not fit."""
        found = self._tensors(name for name in self._where if name.startswith(f"{prefix}."))
        names = sorted((name for name in found if name.endswith(".weight")), key=_natural)
        if not names:
            heads = sorted({name.split(".")[0] for name in self._where if "head" in name}) or ["none"]
            raise ConfigError(f"reward_head: no weights {prefix}.*; heads in the checkpoint: {', '.join(heads)}")
        layers: list[nn.Module] = []
        for name in names:
            layers += [_linear(found[name], found.get(f"{name.removesuffix('weight')}bias")), nn.ReLU()]
        widths = [found[name].shape for name in names]
        if any(one[0] != next_one[1] for one, next_one in pairwise(widths)):
            raise ConfigError(f"reward_head: the layers of {prefix} do not fit: {[tuple(one) for one in widths]}")
        return nn.Sequential(*layers[:-1]).eval().requires_grad_(False)

    def _tensors(self, names: Iterable[str]) -> dict[str, Tensor]:
        with ExitStack() as opened:
            files = {path: opened.enter_context(safe_open(path, "pt")) for path in self._files}
            return {name: files[self._where[name]].get_tensor(name).to(float32) for name in names}


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    if weight.ndim != 2:
        raise ConfigError(f"reward_head: a weight of shape {tuple(weight.shape)} is no linear layer")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    return layer


def _natural(name: str) -> list[tuple[int, str]]:
    """A sort key by which layer 10 comes after layer 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part]
