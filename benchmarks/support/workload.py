"""The benchmarks' images and the client process that sends them.

Images are smooth colours with a little grain, which compress like edited photographs; every workload has new ones, so
that caches from earlier runs do not help.
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

import httpx
import numpy as np
from PIL import Image

from edit_r1.reward_service.methods import METHODS
from edit_r1.reward_service.types import Brief, Edit, JudgeImage, Messages
from edit_r1.shared.client import RewardClient
from edit_r1.shared.images import Codec, encode
from edit_r1.shared.schemas import CandidateError, EditGroup

INSTRUCTION = "make the car on the left red and keep everything else"
Group = tuple[Image.Image, list[Image.Image]]
Save = Callable[[Image.Image, io.BytesIO], None]


@dataclass(frozen=True)
class Workload:
    """Groups of one source and its candidates."""

    num_groups: int
    group_size: int
    side: int
    seed: int

    @property
    def num_candidates(self) -> int:
        """Number of candidates over all groups."""
        return self.num_groups * self.group_size

    def groups(self) -> Iterator[Group]:
        """The images; equal seeds give equal images."""
        rng = np.random.default_rng(self.seed)
        for _ in range(self.num_groups):
            yield self._picture(rng), [self._picture(rng) for _ in range(self.group_size)]

    def _picture(self, rng: np.random.Generator) -> Image.Image:
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((self.side, self.side), Image.Resampling.BICUBIC), np.int16)
        grain = rng.integers(-2, 3, smooth.shape, dtype=np.int16)
        return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


@dataclass(frozen=True)
class ClientSettings:
    """Settings of the client."""

    codec: Codec
    in_flight: int = 16
    """Maximum number of concurrent requests."""


def direct_messages(work: Workload) -> list[Messages]:
    """The messages that the service would send to its engine for every candidate, with decoded images."""
    messages = []
    for number, (source, candidates) in enumerate(work.groups()):
        shown = JudgeImage(source, f"{work.seed}-{number}")
        brief = Brief(INSTRUCTION, "None", "default", (shown,))
        edits = [Edit(brief, JudgeImage(one, f"{work.seed}-{number}-{i}")) for i, one in enumerate(candidates)]
        messages += [METHODS["score_logit"].ask(edit)[0].messages for edit in edits]
    return messages


def client_loop(pipe: Connection, url: str, settings: ClientSettings) -> None:
    """The client process: prepares images and sends them on command, until it receives `end`."""
    arms: dict[str, Callable[[str, list[Group], ClientSettings], Awaitable[None]]] = {
        "group": by_group,
        "candidate": _by_candidate,
        "reference": partial(_as_the_reference, _jpeg),
        "reference-png": partial(_as_the_reference, _png),
    }
    arm, groups = "group", []
    while (command := pipe.recv())[0] != "end":
        try:
            if command[0] == "prepare":
                arm, groups = command[1], list(command[2].groups())
            else:
                asyncio.run(_awaited(arms[arm](url, groups, settings)))
        except Exception as error:  # the other process reports it
            pipe.send(repr(error))
        else:
            pipe.send("done")


async def _awaited(work: Awaitable[None]) -> None:
    await work


async def by_group(url: str | Sequence[str], groups: list[Group], settings: ClientSettings) -> None:
    """One request per group, like a trainer; raises RuntimeError if a candidate gets no score."""
    async with RewardClient(url, max_in_flight=settings.in_flight) as client:
        await asyncio.gather(*(_score(client, source, candidates, settings.codec) for source, candidates in groups))


async def _by_candidate(url: str, groups: list[Group], settings: ClientSettings) -> None:
    async with RewardClient(url, max_in_flight=settings.in_flight) as client:
        pairs = [(source, [candidate]) for source, candidates in groups for candidate in candidates]
        await asyncio.gather(*(_score(client, source, candidates, settings.codec) for source, candidates in pairs))


async def _score(client: RewardClient, source: Image.Image, candidates: list[Image.Image], codec: Codec) -> None:
    encoded = await asyncio.to_thread(lambda: [encode(image, codec) for image in (source, *candidates)])
    group = EditGroup(instruction=INSTRUCTION, sources=(encoded[0],), candidates=tuple(encoded[1:]))
    results = (await client.score(group)).results
    failed = [result.error.message for result in results if isinstance(result, CandidateError)]
    if failed:
        raise RuntimeError(failed[0])


async def _as_the_reference(save: Save, url: str, groups: list[Group], settings: ClientSettings) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        slots = asyncio.Semaphore(settings.in_flight)

        async def score(source: Image.Image, candidate: Image.Image) -> None:
            async with slots:
                body = {"instruction": INSTRUCTION, "source": _text(save, source), "candidate": _text(save, candidate)}
                (await client.post("/reference/score", json=body)).raise_for_status()

        await asyncio.gather(*(score(source, candidate) for source, candidates in groups for candidate in candidates))


def _jpeg(image: Image.Image, buffer: io.BytesIO) -> None:
    image.save(buffer, "JPEG", quality=95)


def _png(image: Image.Image, buffer: io.BytesIO) -> None:
    image.save(buffer, "PNG")


def _text(save: Save, image: Image.Image) -> str:
    buffer = io.BytesIO()
    save(image, buffer)
    return base64.b64encode(buffer.getvalue()).decode()
