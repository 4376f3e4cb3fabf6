"""Source images of tasks: a file, or a picture embedded in a data set. Both are opened in the same way.

A source is a reference: bytes are read when it is opened, so a list of a million tasks keeps no image in memory.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from PIL import Image

from edit_r1.shared import images
from edit_r1.shared.errors import DataError, ImageError


class Source(ABC):
    """A reference to one encoded image."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Where the image is, for messages."""

    @abstractmethod
    def stream(self) -> IO[bytes]:
        """The encoded bytes, to be read and closed. Raises OSError."""

    def read(self) -> bytes:
        """All encoded bytes. Raises OSError."""
        with self.stream() as file:
            return file.read()

    def open(self) -> Image.Image:
        """The image upright as RGB. Raises DataError naming the source."""
        try:
            return images.decode(self.read())
        except (OSError, ImageError) as error:
            raise DataError(f"image {self.name}: {error}") from error

    def size(self) -> tuple[int, int]:
        """(width, height) of the upright image, read from its header. Raises DataError naming the source."""
        try:
            with self.stream() as file:
                return images.upright_size(file)
        except (OSError, ImageError) as error:
            raise DataError(f"image {self.name}: {error}") from error


@dataclass(frozen=True)
class FileSource(Source):
    """An image file."""

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def stream(self) -> IO[bytes]:
        """The open file."""
        return self.path.open("rb")


@dataclass(frozen=True)
class EmbeddedSource(Source):
    """A picture inside a data set. Two are equal when they are in the same place."""

    place: str
    """Data set, row and column."""
    load: Callable[[], bytes] = field(compare=False, repr=False)
    """Reads the encoded bytes."""

    @property
    def name(self) -> str:
        """The place."""
        return self.place

    def stream(self) -> IO[bytes]:
        """A buffer of the bytes."""
        return io.BytesIO(self.load())
