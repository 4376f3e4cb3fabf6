"""Dependencies of every route: the service behind the application, and the API key check."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from edit_r1.reward_service.problems import ProblemError
from edit_r1.reward_service.service import Service

_bearer = HTTPBearer(auto_error=False)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(_service)]


def check_key(service: ServiceDep, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
    """Raise 401 if the service has an API key and the request does not carry it."""
    wanted = service.settings.api_key
    if wanted is None:
        return
    found = given.credentials if given else ""
    if not secrets.compare_digest(found.encode(), wanted.get_secret_value().encode()):
        error = ProblemError(401, "unauthorized", "this service requires `Authorization: Bearer <key>`")
        error.headers["WWW-Authenticate"] = "Bearer"
        raise error
