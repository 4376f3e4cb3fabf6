"""Lower bound of a judge's time: the arithmetic and bytes that one candidate requires.

    python -m benchmarks.floor [--seconds 10] [--tflops 790]

For real judges and images of 512 and 1024 pixels per side: tokens, floating-point operations and bytes per candidate,
scored alone and in a group of 12 whose source is processed once (its visual tokens come first in the prompt, so the
group shares their keys and values); and the share of one GPU's matrix rate that 24 groups x 12 in `--seconds` would
take. On a CUDA machine the rate is measured; elsewhere it is assumed to be 790 TFLOP/s, 80 % of an H200's dense
bfloat16 rate on its data sheet.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import torch

from edit_r1.reward_service.methods.templates import base_prompts
from edit_r1.workbench.markdown import table

GROUPS, GROUP_SIZE = 24, 12
SIDES = (512, 1024)
ASSUMED_TFLOPS = 790.0
HEADINGS = (
    "judge",
    "image side",
    "weights GB",
    "tokens",
    "TFLOP alone",
    "TFLOP in a group",
    "KV MB",
    "wire MB",
    "minimum seconds",
    "share of one GPU",
)
_BYTES = 2  # per bfloat16
_CHARACTERS_PER_TOKEN = 4.2  # English in Qwen's vocabulary
_OWN_TEXT = 250  # characters of an instruction and its requirement


@dataclass(frozen=True)
class Tower:
    """A stack of transformer blocks."""

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_size: int
    gated: bool = True
    """Whether the feed-forward part has three matrices instead of two."""

    @property
    def block_weights(self) -> int:
        """Number of parameters in one block's matrices."""
        attention = self.width * self.head_size * (2 * self.heads + 2 * self.kv_heads)
        return attention + (3 if self.gated else 2) * self.width * self.inner

    def block_flops(self, tokens: float, pairs: float) -> float:
        """FLOPs of one block for `tokens` tokens and `pairs` (query, key) pairs; a multiply-add counts as two."""
        return 2 * self.block_weights * tokens + 4 * self.heads * self.head_size * pairs


@dataclass(frozen=True)
class Judge:
    """The geometry of a Qwen-VL checkpoint."""

    name: str
    text: Tower
    vision: Tower
    vocabulary: int
    patch: int
    windowed_layers: int = 0
    """Number of vision blocks with attention within windows of 8 x 8 patches."""
    mergers: int = 1
    """Number of mergers of 2x2 patches into one visual token; DeepStack has several."""

    @property
    def weights(self) -> float:
        """Number of parameters in all matrices."""
        text, vision = self.text, self.vision
        return (
            text.layers * text.block_weights
            + vision.layers * vision.block_weights
            + self._other_vision_weights
            + 2 * self.vocabulary * text.width
        )

    def visual_tokens(self, side: int) -> int:
        """Visual tokens of a square image, scaled to whole tokens."""
        return round(side / (2 * self.patch)) ** 2

    def vision_flops(self, side: int) -> float:
        """FLOPs of the vision encoder for one image."""
        tokens = self.visual_tokens(side)
        patches = 4 * tokens
        full = self.vision.layers - self.windowed_layers
        blocks = full * self.vision.block_flops(patches, patches**2)
        blocks += self.windowed_layers * self.vision.block_flops(patches, patches * min(64, patches))
        embedding = 2 * patches * self._patch_weights
        return blocks + embedding + 2 * tokens * self.mergers * self._merger_weights

    def text_flops(self, tokens: int, cached: int = 0) -> float:
        """FLOPs of the language model for new tokens after cached ones (causal), and for the logits of one position."""
        pairs = tokens * cached + tokens * (tokens + 1) / 2
        return self.text.layers * self.text.block_flops(tokens, pairs) + 2 * self.vocabulary * self.text.width

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values per token."""
        return 2 * self.text.layers * self.text.kv_heads * self.text.head_size * _BYTES

    @property
    def _patch_weights(self) -> int:
        return 3 * 2 * self.patch**2 * self.vision.width

    @property
    def _merger_weights(self) -> int:
        merged = 4 * self.vision.width
        return merged * merged + merged * self.text.width

    @property
    def _other_vision_weights(self) -> int:
        return self._patch_weights + self.mergers * self._merger_weights


_QWEN25_VISION = Tower(32, 1280, 3420, 16, 16, 80)
JUDGES = (
    Judge("Qwen2.5-VL-7B", Tower(28, 3584, 18_944, 28, 4, 128), _QWEN25_VISION, 152_064, 14, windowed_layers=28),
    Judge(
        "Qwen2.5-VL-32B",
        Tower(64, 5120, 27_648, 40, 8, 128),
        Tower(32, 1280, 3456, 16, 16, 80),
        152_064,
        14,
        windowed_layers=28,
    ),
    Judge(
        "Qwen3-VL-8B",
        Tower(36, 4096, 12_288, 32, 8, 128),
        Tower(27, 1152, 4304, 16, 16, 72, gated=False),
        151_936,
        16,
        mergers=4,
    ),
)


@dataclass(frozen=True)
class Floor:
    """Minimum cost of one candidate."""

    tokens: int
    """Tokens of its prompt: two images and text."""
    alone_flops: float
    shared_flops: float
    """FLOPs in a group that shares the source."""
    kv_bytes: float
    """Bytes of keys and values it adds to the cache, in a group."""
    wire_bytes: float
    """Bytes of raw pixels sent, in a group."""

    def seconds(self, flops_per_second: float) -> float:
        """Seconds for the whole workload of groups at that rate."""
        return GROUPS * GROUP_SIZE * self.shared_flops / flops_per_second


def floor(judge: Judge, side: int, text_tokens: int) -> Floor:
    """The minimum cost of one candidate for one judge."""
    picture, share = judge.visual_tokens(side), 1 / GROUP_SIZE
    own = picture + text_tokens
    vision = judge.vision_flops(side)
    return Floor(
        tokens=picture + own,
        alone_flops=2 * vision + judge.text_flops(picture + own),
        shared_flops=(1 + share) * vision + share * judge.text_flops(picture) + judge.text_flops(own, cached=picture),
        kv_bytes=judge.kv_bytes_per_token * (own + share * picture),
        wire_bytes=(1 + share) * 3 * side**2,
    )


def report(seconds: float, tflops: float, *, measured: bool) -> str:
    """The floor as Markdown."""
    text_tokens = round((len(base_prompts(None)("score")) + _OWN_TEXT) / _CHARACTERS_PER_TOKEN)
    origin = f"measured on {torch.cuda.get_device_name()}" if measured else "assumed for an H200"
    rows = [_row(judge, side, text_tokens, seconds, 1e12 * tflops) for judge in JUDGES for side in SIDES]
    return (
        f"{GROUPS} groups of {GROUP_SIZE} candidates in {seconds:g} s; {tflops:.0f} TFLOP/s ({origin}); "
        f"{text_tokens} text tokens.\n\n{table(HEADINGS, rows)}"
    )


def _row(judge: Judge, side: int, text_tokens: int, seconds: float, flops_per_second: float) -> tuple[str, ...]:
    one = floor(judge, side, text_tokens)
    least = one.seconds(flops_per_second)
    return (
        judge.name,
        f"{side}",
        f"{_BYTES * judge.weights / 1e9:.1f}",
        f"{one.tokens:,}",
        f"{one.alone_flops / 1e12:.1f}",
        f"{one.shared_flops / 1e12:.1f}",
        f"{one.kv_bytes / 1e6:.0f}",
        f"{one.wire_bytes / 1e6:.2f}",
        f"{least:.1f}",
        f"{least / seconds:.0%}",
    )


def measured_tflops(size: int = 8192, repeats: int = 50) -> float | None:
    """Measure the rate of large bfloat16 matrix products on this machine, in TFLOP/s; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(10):
        a @ b
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        a @ b
    torch.cuda.synchronize()
    return repeats * 2 * size**3 / (time.perf_counter() - started) / 1e12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="time allowed for the whole workload")
    parser.add_argument("--tflops", type=float, help="matrix rate instead of the measured or assumed one")
    arguments = parser.parse_args()
    found = None if arguments.tflops else measured_tflops()
    tflops = arguments.tflops or found or ASSUMED_TFLOPS
    print(report(arguments.seconds, tflops, measured=found is not None))


if __name__ == "__main__":
    main()
