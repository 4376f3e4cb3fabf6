"""Steps `kontext`, `large` and `compile`: rollout, decoding and update of FLUX.1-Kontext at its real size."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.support.stages import Stage
from benchmarks.support.training import TINY_EDITOR, Training, kontext_config
from edit_r1.trainer.machine.compiling import CompiledBlocks
from edit_r1.trainer.types import RolloutGroup

Figures = Iterator[tuple[str, Mapping[str, Any]]]
_TINY_SIDE, _TINY_GROUP = 32, 3


def kontext(tiny: bool, tflops: float) -> Figures:
    """A whole training step of one group at 512x512: time and peak memory by stage, and FLOPs utilisation."""
    with _training(tiny, 512, 12, ()) as training:
        training.update(training.roll_out(group_size=1))  # a warm-up, of libraries and kernels
        training.stages.found.clear()
        rollouts = training.roll_out()
        useful = training.useful_flops()
        yield "rollout", _figures(training.stages.found["rollout"], useful["rollout"], tflops)
        yield "decode", _figures(training.stages.found["decode"])
        training.update(rollouts)
        yield "update", _figures(training.stages.found["update"], useful["update"], tflops)
        yield "estimate of edit-r1 doctor", {"peak_gb": training.estimated_bytes() / 1e9}


def large(tiny: bool, tflops: float) -> Figures:
    """Rollout at 1024x1024 with two denoising steps, then the same edits decoded in chunks and all at once."""
    steps = 2
    with _training(tiny, 1024, 12, [f"rollout.steps={steps}"]) as training:
        (group,) = training.roll_out()
        found, useful = training.stages.found, training.useful_flops()
        yield f"rollout, {steps} steps", _figures(found["rollout"], useful["rollout"], tflops)
        yield "decode, first", _figures(found["decode"])
        yield f"decode, vae_pixels={training.family.vae_pixels}", _decode(training, group)
        training.family.vae_pixels = None
        yield "decode, all at once", _decode(training, group)


def _decode(training: Training, group: RolloutGroup) -> Mapping[str, Any]:
    training.stages.found.clear()
    with training.stages.measure("decode"):
        training.family.decode(group.x0, training.size)
    return _figures(training.stages.found["decode"])


def compiled(tiny: bool, _tflops: float) -> Figures:
    """Updates of two candidates at 512x512, three timesteps each, without and with model.compile.

    Graphs that are compiled after the first update are recompilations.
    """
    with _training(tiny, 512, 2, ["trained_timesteps=3"]) as training:
        rollouts = training.roll_out()
        yield "compile: none, first update", _update(training, rollouts)
        yield "compile: none", _update(training, rollouts)
        backend = "eager" if tiny else "inductor"
        compiled = CompiledBlocks(training.family.transformer, backend, lambda _: None)
        for name in (f"compile: {backend}, first update", f"compile: {backend}"):
            figures = _update(training, rollouts)
            yield name, {**figures, "graphs_compiled": compiled.num_new_graphs()}


def _update(training: Training, rollouts: Sequence[RolloutGroup]) -> Mapping[str, Any]:
    training.stages.found.clear()
    training.update(rollouts)
    return _figures(training.stages.found["update"])


@contextmanager
def _training(tiny: bool, side: int, group_size: int, overrides: Sequence[str]) -> Iterator[Training]:
    """One group of the real model, or of the demo's."""
    group_size = min(group_size, _TINY_GROUP) if tiny else group_size
    with tempfile.TemporaryDirectory() as folder:
        config = kontext_config(
            Path(folder),
            model=TINY_EDITOR if tiny else None,
            groups=1,
            side=_TINY_SIDE if tiny else side,
            overrides=[f"group_size={group_size}", *overrides],
        )
        yield Training.of(config)


def _figures(stage: Stage, flops: float | None = None, tflops: float = 1.0) -> Mapping[str, Any]:
    found = {"seconds": stage.seconds, "peak_gb": stage.peak_gb}
    return found if flops is None else {**found, "utilisation": stage.utilisation(flops, tflops)}
