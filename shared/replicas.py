"""Picks the replica to ask: the one that has seen a group's source before, unless it has just failed.

Rendezvous hashing: each (key, replica) pair has a weight, and a key goes to the replica with the highest weight. When a
replica is removed, only its own keys move; when one is added, it takes an equal share from each of the others.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

from braceexpand import braceexpand

REST_SECONDS = 5.0


def by_weight(urls: Sequence[str], key: str) -> list[str]:
    """All replicas in order of preference for this key; the same on every machine and for any order of urls."""
    return sorted(urls, key=lambda url: hashlib.blake2b(f"{key}\0{url}".encode(), digest_size=8).digest(), reverse=True)


class Replicas:
    """The replicas of one service, and which of them failed recently.

    Args:
        urls: root URLs, at least one. `http://node{01..09}:8000` expands to nine, as in a shell.
        clock: monotonic clock in seconds.

    """

    def __init__(self, urls: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.urls = tuple(dict.fromkeys(url.rstrip("/") for pattern in urls for url in braceexpand(pattern)))
        if not self.urls:
            raise ValueError("no reward service url given")
        self._clock = clock
        self._rests_until: dict[str, float] = {}

    def order(self, key: str) -> list[str]:
        """The replicas to ask for this key: by weight, with resting ones last."""
        now = self._clock()
        return sorted(by_weight(self.urls, key), key=lambda url: self._rests_until.get(url, 0.0) > now)

    def rest(self, url: str) -> None:
        """Mark a replica as failed: ask it last for a while."""
        self._rests_until[url] = self._clock() + REST_SECONDS

    def wake(self, url: str) -> None:
        """Mark a replica as working again."""
        self._rests_until.pop(url, None)

    def __str__(self) -> str:
        return ", ".join(self.urls)
