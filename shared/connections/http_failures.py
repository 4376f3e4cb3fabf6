"""Client-side handling of server failures: which are transient, when to retry, how to describe them."""

from __future__ import annotations

import random

import httpx

TRANSIENT_STATUSES = frozenset({429, 502, 503, 504})
"""Statuses with which a server, or a proxy in front of it, asks the client to retry later."""
NOBODY_LISTENS = "cannot connect (nothing is listening there)"


def retry_after(answer: httpx.Response) -> float | None:
    """Seconds of a Retry-After header, plus up to 25 % jitter, as many clients get the same number.

    None without the header, or for its date form, which is left to the client's own backoff.
    """
    value = answer.headers.get("Retry-After", "")
    return float(value) * (1 + random.random() / 4) if value.isdecimal() else None  # noqa: S311 - no secret


def reason(error: Exception) -> str:
    """Why there was no answer, in a few words; some httpx errors have no message of their own."""
    if isinstance(error, httpx.ConnectError):
        return NOBODY_LISTENS
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__
