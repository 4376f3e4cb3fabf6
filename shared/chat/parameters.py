"""The request parameters that a chat endpoint accepts, learned from its refusals.

Takes the fields of a request in our own terms and returns those to send. Reasoning models refuse a temperature and
`max_tokens`; older servers refuse `max_completion_tokens`; some refuse any field that they do not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edit_r1.shared.chat.failures import Failure

LIMIT = "max_tokens"
"""The limit's name in our terms. Sent first, since servers that do not know it say so; `max_completion_tokens` is
ignored silently by some, which would leave answers without a limit."""
_LIMITS = (LIMIT, "max_completion_tokens")
_OPTIONAL = ("temperature", "top_p", "top_k", "seed")
_REFUSAL = re.compile(
    r"unsupported|not (?:be )?supported|does(?: not|n't) support|unknown|unrecogni[sz]ed|unexpected|not permitted"
    r"|cannot find field|not allowed|deprecated|only the default|extra (?:inputs|fields|parameters)",
    re.IGNORECASE,
)


class ChatParameters:
    """What one endpoint accepts; shared by all requests to it.

    Attributes:
        omitted: optional parameters that the endpoint refuses, with its words.

    """

    def __init__(self) -> None:
        self.omitted: dict[str, str] = {}
        self._refused_limits: set[str] = set()

    def adapted(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields to send: without refused ones, and with the limit under its accepted name."""
        body = {name: value for name, value in fields.items() if name not in self.omitted}
        if LIMIT in body:
            body[self._limit] = body.pop(LIMIT)
        return body

    def learn(self, sent: Mapping[str, Any], failure: Failure) -> bool:
        """Whether the failure refuses a parameter that was sent and can be replaced or omitted: then ask again."""
        name = _refused_parameter(sent, failure)
        if name is None:
            return False
        if name in _OPTIONAL:
            self.omitted.setdefault(name, failure.message)
            return True
        # Concurrent requests may have been sent before the first one's refusal was learned.
        known = name in self._refused_limits
        if not known and len(self._refused_limits) == len(_LIMITS) - 1:
            return False
        self._refused_limits.add(name)
        return True

    @property
    def _limit(self) -> str:
        return next(name for name in _LIMITS if name not in self._refused_limits)


def _refused_parameter(sent: Mapping[str, Any], failure: Failure) -> str | None:
    """The adaptable parameter that a refusal is about."""
    if failure.kind != "refused" or not _REFUSAL.search(failure.message):
        return None
    names = [name for name in (*_LIMITS, *_OPTIONAL) if name in sent]
    if failure.parameter is not None:
        return failure.parameter if failure.parameter in names else None
    mentioned = [(found.start(), name) for name in names if (found := re.search(rf"\b{name}\b", failure.message))]
    return min(mentioned)[1] if mentioned else None
