"""Scores of published edits by a running reward service, kept so that a second run asks only for what is missing.

Enters: items, one after another. Leaves: a `ScoreStore`, in memory and in a file. An edit that could not be scored is
missing, and asked for again by the next run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from edit_r1.shared.client import RewardClient
from edit_r1.shared.images import content_hash
from edit_r1.shared.jsonl import append_rows, cut_torn_end, read_rows
from edit_r1.shared.preferences import PreferenceItem
from edit_r1.shared.schemas import CandidateScore, EditGroup, ServiceInfo, task_key

Value = TypeVar("Value")
_ITEMS_AT_ONCE = 32
"""They hold pictures; the client bounds what is on the wire."""


@dataclass(frozen=True)
class Found:
    """One edit's score by one method."""

    key: str
    """Of the judge, the method and all that the judge was shown."""
    score: float
    tokens: int
    """Written by the judge."""


@dataclass(frozen=True)
class Cost:
    """What a method took, over all runs."""

    edits: int
    seconds: float
    """Wall time, with as many groups on the wire as the client allows."""


class ScoreStore:
    """Scores by key, in memory and in a file that only grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Found] = {}
        self._costs: dict[str, Cost] = {}
        if path.exists():
            cut_torn_end(path)
            for _, row in read_rows(path):
                if "cost_of" in row:
                    self._count(row["cost_of"], row["edits"], row["seconds"])
                else:
                    self._found[row["key"]] = Found(**row)

    def get(self, key: str) -> Found | None:
        """What is known."""
        return self._found.get(key)

    def keep(self, found: Sequence[Found]) -> None:
        """Keep these."""
        self._found |= {one.key: one for one in found}
        append_rows(self._path, map(asdict, found))

    def spend(self, method: str, edits: int, seconds: float) -> None:
        """Count what a method took."""
        self._count(method, edits, seconds)
        append_rows(self._path, [{"cost_of": method, "edits": edits, "seconds": seconds}])

    def cost(self, method: str) -> Cost:
        """What a method took so far."""
        return self._costs.get(method, Cost(0, 0.0))

    def _count(self, method: str, edits: int, seconds: float) -> None:
        before = self.cost(method)
        self._costs[method] = Cost(before.edits + edits, before.seconds + seconds)


def edit_keys(item: PreferenceItem, method: str, model: str) -> list[str]:
    """One name for each edit's score."""
    shown = "\0".join((model, method, item.instruction, item.task or "", item.requirement or ""))
    asked = shown.encode() + b"\0".join(item.sources)
    return [content_hash(asked + b"\0" + edit) for edit in item.edits]


async def score_items(
    items: Callable[[], Iterator[PreferenceItem]],
    client: RewardClient,
    info: ServiceInfo,
    method: str,
    *,
    store: ScoreStore,
    tell: Callable[[int], None],
) -> None:
    """Fill the store with one method's scores of all items. Raises as RewardClient.score does.

    Args:
        items: makes the items anew; they are read as they are needed, since they hold pictures.
        client: asks, as many groups at once as it allows.
        info: of the service that it asks.
        method: one of the service's.
        store: what it holds already is not asked for.
        tell: hears the number of edits of each item that is done.

    """
    started, asked = time.perf_counter(), 0

    async def score(item: PreferenceItem) -> None:
        nonlocal asked
        keys = edit_keys(item, method, info.model)
        missing = {key: edit for key, edit in zip(keys, item.edits, strict=True) if store.get(key) is None}
        for chunk in _chunks(missing.items(), info.limits.max_candidates):
            answer = await client.score(_group(item, method, info, [edit for _, edit in chunk]))
            asked += len(chunk)
            store.keep(
                [
                    Found(key, result.score, int(result.details.get("answer_tokens", 0)))
                    for (key, _), result in zip(chunk, answer.results, strict=True)
                    if isinstance(result, CandidateScore)
                ]
            )
        tell(len(item.edits))

    for window in _chunks(items(), _ITEMS_AT_ONCE):
        await asyncio.gather(*(score(item) for item in window))
    if asked:
        store.spend(method, asked, time.perf_counter() - started)


def _chunks(values: Iterable[Value], size: int) -> Iterator[list[Value]]:
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _group(item: PreferenceItem, method: str, info: ServiceInfo, edits: Sequence[bytes]) -> EditGroup:
    """A request; a task that the service has no text for is judged without one."""
    known = item.task is not None and task_key(item.task) in info.tasks
    return EditGroup(
        instruction=item.instruction,
        requirement=item.requirement,
        task=item.task if known else None,
        method=method,
        sources=item.sources,
        candidates=tuple(edits),
    )
