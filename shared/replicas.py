"""Which replica of a service to ask: the one that has seen a group's source before, unless it is resting.

Rendezvous hashing: each (key, replica) pair has a weight, and a key goes to the replica that weighs most for it. When a
replica goes, only its own keys move; when one comes, it takes an equal share from each of the others.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

from braceexpand import braceexpand

REST_SECONDS = 5.0


def by_weight(urls: Sequence[str], key: str) -> list[str]:
    """All replicas in the order in which this key wants them; the same on every machine and for every order of urls."""
    return sorted(urls, key=lambda url: hashlib.blake2b(f"{key}\0{url}".encode(), digest_size=8).digest(), reverse=True)


class Replicas:
    """The replicas of one service, and which of them failed just now.

    Args:
        urls: their roots; at least one. `http://node{01..09}:8000` stands for nine, as in a shell.
        clock: seconds that only grow.

    """

    def __init__(self, urls: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.urls = tuple(dict.fromkeys(url.rstrip("/") for pattern in urls for url in braceexpand(pattern)))
        if not self.urls:
            raise ValueError("no url of a reward service")
        self._clock = clock
        self._rests_until: dict[str, float] = {}

    def order(self, key: str) -> list[str]:
        """Whom to ask for this key: by weight, those that rest last."""
        now = self._clock()
        return sorted(by_weight(self.urls, key), key=lambda url: self._rests_until.get(url, 0.0) > now)

    def rest(self, url: str) -> None:
        """It failed: ask it last for a while."""
        self._rests_until[url] = self._clock() + REST_SECONDS

    def wake(self, url: str) -> None:
        """It answered."""
        self._rests_until.pop(url, None)

    def __str__(self) -> str:
        return ", ".join(self.urls)
