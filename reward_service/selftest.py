"""What must hold before the service is ready: labels are single tokens, golden edits score in the right order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean

from reward_service.engines.base import Engine
from reward_service.methods.base import Method
from reward_service.scoring import Scorer
from shared.errors import ConfigError, UnsuitableModelError
from shared.schemas import CandidateError, EditGroup

_MIN_ORDERED_SHARE = 0.75
_CANDIDATES = ("done", "untouched", "wrong")


def check_labels(engine: Engine, methods: Mapping[str, Method]) -> None:
    """Raise UnsuitableModelError when a method's label is not one token of this model."""
    for method in methods.values():
        engine.chat.label_ids(method.labels)


def read_calibration(directory: Path) -> list[EditGroup]:
    """The golden edits of a directory: `NN/{source,done,untouched,wrong}.png`, `instruction.txt`, maybe `task.txt`.

    Raises:
        ConfigError: the directory holds none, or a file is missing.

    """
    samples = sorted(path.parent for path in directory.glob("*/instruction.txt"))
    if not samples:
        raise ConfigError(f"calibration: no */instruction.txt in {directory}")
    try:
        return [_group(sample) for sample in samples]
    except OSError as error:
        raise ConfigError(f"calibration: {error}") from error


async def check_order(scorer: Scorer, groups: Iterable[EditGroup]) -> float:
    """Score golden edits; the share of pairs in which the done edit beats an untouched or wrong one.

    Raises:
        UnsuitableModelError: the share is below 0.75: this judge's scores would mislead.

    """
    ordered: list[bool] = []
    for group in groups:
        results = (await scorer.score(group, "self-test")).results
        failed = [result.error.message for result in results if isinstance(result, CandidateError)]
        if failed:
            raise UnsuitableModelError(f"self-test: {group.instruction!r} could not be scored: {failed[0]}")
        done, *others = (result.score for result in results if not isinstance(result, CandidateError))
        ordered += [done > other for other in others]
    share = fmean(ordered)
    if share < _MIN_ORDERED_SHARE:
        raise UnsuitableModelError(
            f"self-test: a done edit beat an untouched or wrong one in {share:.0%} of the golden pairs; "
            f"a judge must reach {_MIN_ORDERED_SHARE:.0%}"
        )
    return share


def _group(sample: Path) -> EditGroup:
    task = sample / "task.txt"
    return EditGroup(
        instruction=(sample / "instruction.txt").read_text(encoding="utf-8"),
        task=task.read_text(encoding="utf-8").strip() if task.exists() else None,
        sources=((sample / "source.png").read_bytes(),),
        candidates=tuple((sample / f"{name}.png").read_bytes() for name in _CANDIDATES),
    )
