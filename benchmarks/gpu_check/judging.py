"""Step `judge`: a judge of Qwen2.5-VL-7B's size in the transformers engine, without HTTP."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.support.judges import random_checkpoint
from benchmarks.support.stages import Stages
from benchmarks.support.workload import Workload, direct_messages
from edit_r1.reward_service.engines.base import EngineOptions
from edit_r1.reward_service.engines.transformers import TransformersEngine
from edit_r1.reward_service.mathematics.expectation import expectation
from edit_r1.reward_service.types import Messages, SamplingSpec

LABELS = ("0", "1", "2", "3", "4", "5")
_SPEC = SamplingSpec(labels=LABELS)


def judge(tiny: bool, _tflops: float) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Candidates per second in groups and one chat at a time, and what dtype and company change in scores."""
    groups, group_size, side = (1, 2, 56) if tiny else (4, 12, 448)
    size = "small" if tiny else "7b"
    same = direct_messages(Workload(1, group_size, side, seed=0))
    with _engine(size, torch.bfloat16) as engine:
        _scores(engine, direct_messages(Workload(1, group_size, side, seed=1)), together=True)  # a warm-up
        many = direct_messages(Workload(groups, group_size, side, seed=2))
        yield "in groups, bfloat16", _rate(engine, many, together=True)
        few = direct_messages(Workload(1, group_size, side, seed=3))
        yield "one chat at a time, bfloat16", _rate(engine, few, together=False)
        half, half_alone = (_scores(engine, same, together=together) for together in (True, False))
        yield "bfloat16 scores of 0 to 5: alone against in a group", _differences(half_alone, half)
    with _engine(size, torch.float32) as engine:
        full, full_alone = (_scores(engine, same, together=together) for together in (True, False))
    yield "float32 scores: alone against in a group", _differences(full_alone, full)
    yield "scores in a group: bfloat16 against float32", _differences(half, full)


@contextmanager
def _engine(size: str, dtype: torch.dtype) -> Iterator[TransformersEngine]:
    """An engine with a judge of its own, whose weights are always the same bfloat16 numbers."""
    checkpoint = random_checkpoint(size)
    for weight in checkpoint.model.parameters():  # not the buffers, which checkpoints load in float32, too
        weight.data = weight.data.to(torch.bfloat16).to(dtype)
    engine = TransformersEngine(checkpoint, EngineOptions(checkpoint.chat.model, max_model_len=4096))
    try:
        yield engine
    finally:
        engine.close()


def _rate(engine: TransformersEngine, messages: Sequence[Messages], *, together: bool) -> Mapping[str, Any]:
    """cpu_share: CPU seconds of this process per second; 1 is one core."""
    stages = Stages(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    cpu_started = time.process_time()
    with stages.measure("scoring"):
        _scores(engine, messages, together=together)
    cpu_seconds, stage = time.process_time() - cpu_started, stages.found["scoring"]
    return {
        "candidates": len(messages),
        "candidates_per_second": len(messages) / stage.seconds,
        "cpu_share": cpu_seconds / stage.seconds,
        "peak_gb": stage.peak_gb,
    }


def _scores(engine: TransformersEngine, messages: Sequence[Messages], *, together: bool) -> list[float]:
    """Expected label of every conversation, asked for all at once or one after another."""

    async def ask() -> list[float]:
        if together:
            return list(await asyncio.gather(*(_score(engine, one) for one in messages)))
        return [await _score(engine, one) for one in messages]

    return asyncio.run(ask())


async def _score(engine: TransformersEngine, messages: Messages) -> float:
    answer = await engine.generate(messages, _SPEC)
    return expectation(answer.label_logprobs[0], [float(label) for label in LABELS]).value


def _differences(scores: Sequence[float], others: Sequence[float]) -> Mapping[str, Any]:
    """spread: standard deviation of the second scores over the candidates, to compare the differences with."""
    differences = [abs(one - other) for one, other in zip(scores, others, strict=True)]
    return {
        "largest_difference": max(differences),
        "mean_difference": statistics.fmean(differences),
        "spread": statistics.pstdev(others),
    }
