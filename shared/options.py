"""Options that several commands have, said once: where the reward service is, and its key."""

from __future__ import annotations

from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:8000"

Url = Annotated[str, typer.Option(envvar="REWARD_URL", help="The reward service.")]
ApiKey = Annotated[str | None, typer.Option(envvar="REWARD_API_KEY", help="The service's key.")]
