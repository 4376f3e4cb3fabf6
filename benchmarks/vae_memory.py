"""How many numbers are alive per pixel while a VAE of real size encodes or decodes one image.

    python -m benchmarks.vae_memory [--side 512]

Runs on the meta device: no weights, no arithmetic, but every tensor's size. A tensor counts from its making until
nothing refers to it; weights do not count. `ModelFamily.decoder_numbers` and `encoder_numbers` hold the results, and
the doctor multiplies them by 4 bytes and the pixels in work. The libraries' own workspace comes on top: a CPU took 1.4
times as much. Attention in the VAE's middle is counted with its full matrix, which fused kernels do not need; at
512x512 this does not matter.
"""

from __future__ import annotations

import argparse
import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2, AutoencoderKLQwenImage, AutoencoderKLQwenImage21
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.support.real_sizes import VAE as FLUX_VAE
from edit_r1.workbench.markdown import table

_FLOAT32 = 4


@dataclass(frozen=True)
class Case:
    """A VAE at its real size, and the model families that have it."""

    vae: Callable[[], nn.Module]
    families: tuple[str, ...]
    downsampling: int = 8
    video: bool = False
    """Whether images are videos of one frame."""


CASES: Mapping[str, Case] = {
    "FLUX.1": Case(lambda: AutoencoderKL.from_config(FLUX_VAE), ("flux_kontext",)),
    "FLUX.2": Case(AutoencoderKLFlux2, ("flux2_klein",)),
    "Qwen-Image": Case(AutoencoderKLQwenImage, ("qwen_image_edit", "qwen_image_edit_plus"), video=True),
    "Qwen-Image-2.1": Case(AutoencoderKLQwenImage21, (), downsampling=16, video=True),
}
"""The defaults of diffusers' classes are the published sizes, except for FLUX.1's."""


@dataclass(frozen=True)
class Numbers:
    """float32 numbers alive per pixel, at most."""

    encoding: float | None
    """None where the VAE cannot encode an image as it is."""
    decoding: float


class PeakOfLiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call] # its base has no types
    """Counts the bytes of all tensors made inside the block that are still alive, and keeps the maximum."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        own = (*module.parameters(), *module.buffers())
        self._known = {tensor.untyped_storage()._cdata for tensor in own}
        self._now, self.peak = 0, 0  # bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:  # a view, or in place
            return
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


def measure(case: Case, side: int = 512) -> Numbers:
    """The numbers of one VAE on an image of side x side pixels."""
    with torch.device("meta"):
        vae: Any = case.vae()
    vae.eval().requires_grad_(requires_grad=False)
    channels = vae.config.get("latent_channels") or vae.config.z_dim
    latents = _picture(case, channels, side // case.downsampling)
    decoding = _peak(vae, lambda: vae.decode(latents, return_dict=False)) / side**2
    pixels = _picture(case, vae.config.get("in_channels") or vae.config.get("input_channels", 3), side)
    # Qwen-Image-2.1's encoder cannot run from its configuration alone, and no family needs it.
    encoding = _peak(vae, lambda: vae.encode(pixels)) / side**2 if case.families else None
    return Numbers(encoding, decoding)


def _picture(case: Case, channels: int, side: int) -> Tensor:
    picture = torch.empty(1, channels, side, side, device="meta")
    return picture.unsqueeze(2) if case.video else picture


@torch.no_grad()
def _peak(vae: nn.Module, run: Callable[[], object]) -> float:
    with PeakOfLiveTensors(vae) as live:
        run()
    peak: float = live.peak / _FLOAT32
    return peak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=512)
    side = parser.parse_args().side
    rows = []
    for name, case in CASES.items():
        found = measure(case, side)
        rows.append(
            (
                name,
                ", ".join(case.families) or "none yet",
                "" if found.encoding is None else f"{found.encoding:,.0f}",
                f"{found.decoding:,.0f}",
                f"{found.decoding * 1024**2 * _FLOAT32 / 1e9:.1f}",
            )
        )
    print(table(("VAE", "families", "encode: numbers/pixel", "decode", "decode 1024x1024, GB"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
