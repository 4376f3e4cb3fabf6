"""`edit-r1 serve`: settings -> application -> uvicorn, with a graceful shutdown."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Sequence
from types import FrameType

import structlog
import uvicorn
from structlog.typing import Processor

from edit_r1.reward_service.app import create_app
from edit_r1.reward_service.service import Service
from edit_r1.reward_service.settings import Settings, settings_from
from edit_r1.shared.errors import EditR1Error


def serve(arguments: Sequence[str]) -> None:
    """Run the service until a signal or a failure.

    Raises:
        EditR1Error: the settings are invalid, or the judge cannot serve; the process should exit with an error.

    """
    settings = settings_from(arguments)
    configure_logging(settings)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=5,
        log_config=None,
        access_log=False,
    )
    service: Service = app.state.service
    DrainingServer(config, service).run()
    if service.failure:
        raise EditR1Error(f"the reward service stopped: {service.failure}")


class DrainingServer(uvicorn.Server):
    """A server that finishes running requests before it exits, and answers new ones with 503 meanwhile."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: asyncio.Task[None] | None = None
        service.on_failure = self._end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain and exit on the first signal; exit immediately on a second one."""
        if self._loop is None or self._service.admission.draining:
            super().handle_exit(sig, frame)
        else:
            # A signal handler can run between any two instructions; only this call is safe to make on the loop there.
            self._loop.call_soon_threadsafe(self._start_drain)

    def _start_drain(self) -> None:
        self._drain = asyncio.get_running_loop().create_task(self._drain_and_end())

    async def _drain_and_end(self) -> None:
        await self._service.admission.drain(self._service.settings.drain_seconds)
        self._end()

    def _end(self) -> None:
        self.should_exit = True


def configure_logging(settings: Settings) -> None:
    """Log one line per event to stderr: human-readable, or JSON if the settings say so."""
    wants_json = settings.log_format == "json"
    # structlog shows variables in tracebacks by default; leave them out, as a request's headers contain the key.
    plain = structlog.dev.plain_traceback
    without_values = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    for_people: list[Processor] = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    for_machines: list[Processor] = [
        structlog.processors.ExceptionRenderer(without_values),
        structlog.processors.JSONRenderer(),
    ]
    renderers = for_machines if wants_json else for_people
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Format the logs of uvicorn and other libraries the same way.
    handler = logging.StreamHandler(sys.stderr)
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[strip, *renderers], foreign_pre_chain=common))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for chatty in ("httpx", "python_multipart"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    structlog.configure(
        processors=[*common, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
