"""Options shared by several commands: the reward service's URL and API key."""

from __future__ import annotations

from typing import Annotated

import typer

from edit_r1.shared.connections.api_keys import checked_key

DEFAULT_URL = "http://127.0.0.1:8000"

Url = Annotated[str, typer.Option(envvar="REWARD_URL", help="URL of the reward service.")]
ApiKey = Annotated[
    str | None,
    typer.Option(
        envvar="REWARD_API_KEY",
        callback=lambda value: checked_key(value, "--api-key or REWARD_API_KEY"),
        help="API key of the reward service.",
    ),
]
