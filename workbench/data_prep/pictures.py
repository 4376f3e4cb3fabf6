"""Images that lists refer to: loading them upright, and renaming them relative to another directory."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from edit_r1.shared import images
from edit_r1.shared.errors import DataError, ImageError
from edit_r1.shared.sources import Source
from edit_r1.workbench.data_prep.geometry import Size

MISSING, UNREADABLE = "image missing", "image unreadable"


def load(source: Source) -> Image.Image:
    """Load an upright RGB image. Raises DataError with the counted reason as message: MISSING or UNREADABLE."""
    try:
        return images.decode(source.read())
    except OSError as error:
        raise DataError(MISSING) from error
    except ImageError as error:
        raise DataError(UNREADABLE) from error


def upright_size(path: Path) -> Size:
    """Size of the upright image, read from its header. Raises DataError like `load`."""
    try:
        with path.open("rb") as file:
            return images.upright_size(file)
    except OSError as error:
        raise DataError(MISSING) from error
    except ImageError as error:
        raise DataError(UNREADABLE) from error


class Renaming:
    """Translates image names to be relative to the directory of another list."""

    def __init__(self, source: Path, target: Path) -> None:
        """source, target: directories of the input list and of the output list."""
        relative = os.path.relpath(source.resolve(), target.resolve())
        self._prefix = "" if relative == "." else f"{Path(relative).as_posix()}/"

    def __call__(self, name: str) -> str:
        """Translate a name; absolute names are unchanged."""
        return name if not self._prefix or Path(name).is_absolute() else os.path.normpath(f"{self._prefix}{name}")
