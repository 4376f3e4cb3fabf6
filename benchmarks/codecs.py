"""Compares codecs for sending images to the judge: time, bytes, and the effect of loss on the reward.

    python -m benchmarks.codecs [--side 512] [--pictures 40]

Times are medians over images with photographic grain (`benchmarks/support/workload.py`), on one thread. The reward is
`score_logit` of the demo world's judge on held-out edits: candidates and sources go through the codec, and the score is
compared with the lossless one. The world's images are 32x32 with sharp edges, a worst case for JPEG.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.support.workload import Workload
from edit_r1.shared.images import decode, encode
from edit_r1.workbench.markdown import table
from edit_r1.worlds.shapes.demo import HERE
from edit_r1.worlds.shapes.studies.edit_sets import EditSet, corruption_set, make_scorer, score_set
from edit_r1.worlds.shapes.training.judge_trainer import pairwise_accuracy

Encode = Callable[[Image.Image], bytes]


def saved(kind: str, **options: object) -> Encode:
    """Pillow's encoder with these options."""

    def run(image: Image.Image) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return run


CODECS: dict[str, Encode] = {
    "raw (the trainer's default)": lambda image: encode(image, "raw"),
    "webp lossless": lambda image: encode(image, "webp"),
    "png level 1": saved("PNG", compress_level=1),
    "png level 6": saved("PNG", compress_level=6),
    "jpeg 95": saved("JPEG", quality=95),
    "jpeg 75": saved("JPEG", quality=75),
}
LOSSLESS, LOSSY = "webp lossless", ("jpeg 95", "jpeg 75")
HEADINGS = ("codec", "encode ms", "decode ms", "kB", "mean score change", "largest", "pairwise accuracy")


def times(pictures: list[Image.Image], encoder: Encode) -> tuple[float, float, float]:
    """Median milliseconds to encode and decode, and mean bytes."""
    encoding, decoding, sizes = [], [], []
    for picture in pictures:
        started = time.perf_counter()
        data = encoder(picture)
        between = time.perf_counter()
        decode(data)
        decoding.append(time.perf_counter() - between)
        encoding.append(between - started)
        sizes.append(len(data))
    return 1e3 * statistics.median(encoding), 1e3 * statistics.median(decoding), statistics.mean(sizes)


def through(edit_set: EditSet, encoder: Encode) -> EditSet:
    """The same edits after the codec."""
    edits = [[np.asarray(decode(encoder(Image.fromarray(edit)))) for edit in row] for row in edit_set.edits]
    return EditSet(edit_set.name, edit_set.tasks, np.array(edits), edit_set.oracle)


def effect_on_scores(judge: Path, edit_set: EditSet) -> dict[str, tuple[float, float, float]]:
    """Codec -> mean and largest change of the score, and pairwise accuracy against the oracle."""
    scorer = make_scorer(judge)
    scores = {
        name: asyncio.run(score_set(scorer, through(edit_set, CODECS[name]), "score_logit"))
        for name in (LOSSLESS, *LOSSY)
    }
    exact, *_ = scores.values()
    return {
        name: (
            float(np.abs(s - exact).mean()),
            float(np.abs(s - exact).max()),
            pairwise_accuracy(s, edit_set.oracle)[0],
        )
        for name, s in scores.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--judge", type=Path, default=HERE / "judge")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pictures = [source for source, _ in Workload(arguments.pictures, 0, arguments.side, seed=0).groups()]
    changes = effect_on_scores(arguments.judge, corruption_set(120, 6))
    rows = []
    for name, encoder in CODECS.items():
        encoding, decoding, size = times(pictures, encoder)
        # One lossless codec represents all: the judge sees the same pixels.
        mean, largest, accuracy = changes[name if name in LOSSY else LOSSLESS]
        change = (f"{mean:.4f}", f"{largest:.3f}", f"{accuracy:.3f}")
        rows.append((name, f"{encoding:.1f}", f"{decoding:.1f}", f"{size / 1e3:.0f}", *change))
    print(table(HEADINGS, rows))


if __name__ == "__main__":
    main()
