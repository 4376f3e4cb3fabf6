"""LPIPS per pixel: torchmetrics' network and linear layers, with the backbone's weights from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torchmetrics.functional.image.lpips import _NoTrainLpips

from edit_r1.reward_service.measures.kept import Map
from edit_r1.shared.errors import ConfigError


class Lpips:
    """A loaded network. Raises ConfigError if the file does not contain AlexNet's convolutions."""

    def __init__(self, weights: str, device: str) -> None:
        # torchmetrics' public classes download the backbone; this one begins with random weights, replaced below.
        self._net = _NoTrainLpips(net="alex", pnet_rand=True, spatial=True)
        wanted = {name: f"features.{name.partition('.')[2]}" for name in self._net.net.state_dict()}
        found = _tensors(Path(weights))
        missing = [key for key in wanted.values() if key not in found]
        if missing:
            raise ConfigError(f"lpips_weights: {weights} has no {missing[0]}; expected torchvision's AlexNet")
        try:
            self._net.net.load_state_dict({name: found[key] for name, key in wanted.items()})
        except RuntimeError as error:
            raise ConfigError(f"lpips_weights: {weights}: {error}") from error
        self._net.to(device)
        self._device = device

    @torch.inference_mode()
    def similarity(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> Map:
        """[H, W], 1 - distance, of two pictures [H, W, 3] in [0, 1]."""
        pair = [torch.from_numpy(one).permute(2, 0, 1)[None].to(self._device) for one in (before, after)]
        distance: Tensor = self._net(*pair, normalize=True)
        return 1 - distance[0, 0].double().cpu().numpy()


def _tensors(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"lpips_weights: {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Readers of third-party files fail in many ways; all mean that this is no file of weights.
        raise ConfigError(f"lpips_weights: {path} cannot be read: {error}") from error
    return found
