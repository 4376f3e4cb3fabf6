"""The trainer at real size: rollout and update of a few groups for FLUX.1-Kontext (12 B), LoRA with random weights.

    python -m benchmarks.kontext [--model DIRECTORY] [--groups 2] [--size 512] [--tflops 990] [key=value ...]

For a GPU. The measurements do not depend on the weights' values, so none are downloaded: `--model` takes any pipeline
directory with configurations (default: `benchmarks.support.real_sizes`). Prints seconds and peak memory by stage, the
estimate of `edit-r1 doctor`, and model FLOPs utilisation: the arithmetic that the method requires (no recomputation)
over `--tflops`, the GPU's dense bfloat16 rate on its data sheet (H200: 990). `make gpu-check` includes it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.support.training import Training, kontext_config
from edit_r1.workbench.markdown import table

HEADINGS = ("stage", "s", "s per group", "peak GB", "PFLOP", "utilisation")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--tflops", type=float, default=990.0)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = kontext_config(
            Path(folder),
            model=arguments.model,
            groups=arguments.groups,
            side=arguments.size,
            overrides=arguments.overrides,
        )
        training = Training.of(config)
        training.update(training.roll_out())  # a warm-up
        training.stages.found.clear()
        training.update(training.roll_out())
    _print(training, arguments.groups, arguments.tflops)
    return 0


def _print(training: Training, groups: int, tflops: float) -> None:
    useful = training.useful_flops()
    rows = []
    for name, stage in training.stages.found.items():
        flops = useful.get(name)
        share = "" if flops is None else f"{stage.utilisation(flops, tflops):.1%}"
        rows.append(
            (
                name,
                f"{stage.seconds:.1f}",
                f"{stage.seconds / groups:.2f}",
                "" if stage.peak_gb is None else f"{stage.peak_gb:.1f}",
                "" if flops is None else f"{flops / 1e15:.3g}",
                share,
            )
        )
    print(table(HEADINGS, rows))
    estimate = training.estimated_bytes() / 1e9
    if torch.cuda.is_available():
        print(f"\nedit-r1 doctor estimates a peak of {estimate:.1f} GB\n{torch.cuda.get_device_name()}")
    else:
        print(f"\nrun on a CPU; edit-r1 doctor estimates {estimate:.1f} GB of GPU memory")


if __name__ == "__main__":
    sys.exit(main())
