"""A real uvicorn server on a free loopback port in a thread; helpers to wait for it and query it; images to send."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx
import numpy as np
import uvicorn
from PIL import Image
from starlette.types import ASGIApp

from edit_r1.reward_service.app import create_app
from edit_r1.reward_service.settings import Settings

T = TypeVar("T")


@contextmanager
def serving(app: ASGIApp, port: int = 0) -> Iterator[str]:
    """Run an application; yields its URL once the port is open. Port 0: any free port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_keep_alive=120, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server exited before it had started"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextmanager
def reward_service(checkpoint: Path, **settings: object) -> Iterator[str]:
    """Run a reward service with this judge, without a self-test by default; yields its URL once it is ready."""
    values = {"model": str(checkpoint), "engine": "transformers", "calibration": "none", **settings}
    with serving(create_app(Settings.model_validate(values))) as url:
        wait_until_ready(url)
        yield url


def free_port() -> int:
    """A port on which nothing is listening."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(url: str, limit_seconds: float = 240.0) -> None:
    """Poll /readyz until it returns 200."""
    deadline = time.monotonic() + limit_seconds
    while (answer := httpx.get(f"{url}/readyz")).status_code != 200:
        assert answer.json()["code"] == "loading", answer.text
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


def wait_for(what: Callable[[], T], limit_seconds: float = 60.0) -> T:
    """Poll `what` until it is truthy; returns its value."""
    deadline = time.monotonic() + limit_seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"still waiting after {limit_seconds:g} s"
        time.sleep(0.02)
    return found


def answers(url: str) -> bool:
    """Whether a server answers with 200 at the URL."""
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def metric(url: str, name: str, **headers: str) -> float:
    """Sum of all samples at /metrics whose line starts with `name`."""
    lines = httpx.get(f"{url}/metrics", headers=headers).raise_for_status().text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def picture(seed: int, side: int = 32) -> Image.Image:
    """An image of four blocks with random colours."""
    blocks = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    return Image.fromarray(blocks.repeat(side // 2, 0).repeat(side // 2, 1))


def encoded(image: Image.Image, codec: str = "PNG") -> bytes:
    """The image's bytes in this codec."""
    buffer = io.BytesIO()
    image.save(buffer, codec)
    return buffer.getvalue()


def png(seed: int, side: int = 32) -> bytes:
    """`picture` as PNG bytes."""
    return encoded(picture(seed, side))


def png_bomb() -> bytes:
    """A PNG of 30,000 x 30,000 pixels in a few kilobytes."""
    return encoded(Image.new("1", (30_000, 30_000)))
