"""Tells apart the failures of OpenAI-style chat endpoints: of the account, the address, one request, or the server.

Takes a response and returns a `Failure`, or None for a success. Providers share statuses but not their meaning: 429 is
a rate limit or an exhausted quota, 400 a bad request or an unpaid bill, 403 a wrong key or a content filter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from edit_r1.shared.connections import http_failures

FailureKind = Literal["account", "address", "busy", "refused", "failed"]
_SHOWN = 300
_BUSY = http_failures.TRANSIENT_STATUSES | {408, 425, 529}
_ADDRESS = frozenset({404, 405})
_ACCOUNT_STATUSES = frozenset({401, 402, 403})
_ACCOUNT_CODES = frozenset(
    {
        "insufficient_quota",
        "insufficient_balance",
        "insufficient_credits",
        "billing_hard_limit_reached",
        "billing_not_active",
        "account_deactivated",
        "invalid_api_key",
        "arrearage",
        "accountoverdueerror",
        "access_terminated",
    }
)
_ACCOUNT_WORDS = re.compile(
    r"arrearage|overdue|insufficient[ _](quota|balance|credit|fund)|\bbilling\b|exceeded your current quota"
    r"|credit balance|out of credits?|add (more )?credits|account .{0,40}(deactivated|suspended|disabled|not active)"
    r"|api[ _]key (is )?(not valid|invalid|expired)|api_key_invalid|in good standing",
    re.IGNORECASE,
)
_FILTER_WORDS = re.compile(
    r"content[ _](management|filter|policy)|data_?inspection|moderation|flagged|safety", re.IGNORECASE
)
_RETRY_WORDS = re.compile(r"(?:retry|try again) in (\d+(?:\.\d+)?)\s*(ms|s)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Failure:
    """Why a request got no answer."""

    kind: FailureKind
    """account: key, credit or quota, so that no request can succeed. address: wrong URL or model. busy: may pass.
    refused: this request only. failed: the server broke, or did not answer with a chat completion."""
    message: str
    """Status and the server's own words, shortened."""
    parameter: str | None = None
    """The parameter that the server names as the fault, if it does so in a field."""
    retry_after_seconds: float | None = None
    """When to ask again, if the server says so."""


def failure_of(answer: httpx.Response) -> Failure | None:
    """The failure that a response reports; None for a success. Some gateways report errors with status 200."""
    error = _error(answer)
    if answer.is_success and not isinstance(error, Mapping):
        return None
    detail = _detail(error) if error is not None else answer.text[:_SHOWN] or answer.reason_phrase
    status, codes = answer.status_code, set()
    parameter = None
    if isinstance(error, Mapping):
        codes = {str(error.get(name)).lower() for name in ("code", "type", "status")}
        parameter = error["param"] if isinstance(error.get("param"), str) else None
        if answer.is_success:
            status = next((int(code) for code in codes if code.isdecimal()), 400)
    wait = _wait(answer, detail)
    kind = _kind(status, codes, detail, told_to_wait=wait is not None)
    return Failure(kind, f"{status}: {detail}", parameter, wait)


def _kind(status: int, codes: set[str], detail: str, *, told_to_wait: bool) -> FailureKind:
    if 400 <= status < 500 and _concerns_account(status, codes, detail, told_to_wait):
        return "account"
    if status in _BUSY:
        return "busy"
    if status in _ADDRESS:
        return "address"
    return "refused" if 400 <= status < 500 else "failed"


def _concerns_account(status: int, codes: set[str], detail: str, told_to_wait: bool) -> bool:
    if codes & _ACCOUNT_CODES:
        return True
    if status == 403 and _FILTER_WORDS.search(" ".join((detail, *codes))):
        return False
    # A rate limit may have the words of a quota, but says when it ends.
    return status in _ACCOUNT_STATUSES or (not told_to_wait and _ACCOUNT_WORDS.search(detail) is not None)


def _wait(answer: httpx.Response, detail: str) -> float | None:
    """Seconds to wait, from the header or from the message."""
    if (header := http_failures.retry_after(answer)) is not None:
        return header
    found = _RETRY_WORDS.search(detail)
    return None if found is None else float(found[1]) / (1000 if found[2].lower() == "ms" else 1)


def _error(answer: httpx.Response) -> Any:
    """The error in a JSON body; the whole body of a failure that has no such field; None if there is none."""
    try:
        body: Any = answer.json()
    except ValueError:
        return None
    if isinstance(body, list) and body:  # Gemini wraps its errors into a list
        body = body[0]
    if isinstance(body, Mapping) and body.get("error"):
        return body["error"]
    return None if answer.is_success else body


def _detail(error: Any) -> str:
    return str(error["message"] if isinstance(error, Mapping) and "message" in error else error)[:_SHOWN]
