"""Trouble with a server, as its clients see it: what will pass, when to try again, what to tell people."""

from __future__ import annotations

import random

import httpx

TRANSIENT_STATUSES = frozenset({429, 502, 503, 504})
"""A server, or a proxy before it, says: later."""


def retry_after(answer: httpx.Response) -> float | None:
    """Seconds of a Retry-After header, stretched by up to a quarter: many clients were told the same number.

    None without one, and for its date form, which is left to the client's own backoff.
    """
    value = answer.headers.get("Retry-After", "")
    return float(value) * (1 + random.random() / 4) if value.isdecimal() else None  # noqa: S311 - no secret


def reason(error: Exception) -> str:
    """Why there was no answer, in a few words; some of httpx's errors have none."""
    if isinstance(error, httpx.ConnectError):
        return "no connection (nothing listens there)"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__
