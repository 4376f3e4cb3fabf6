"""Pictures that lists name: read upright, or the reason why not; and their names seen from another directory."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from edit_r1.shared import images
from edit_r1.shared.errors import DataError, ImageError
from edit_r1.workbench.data_prep.geometry import Size

MISSING, UNREADABLE = "picture missing", "picture unreadable"


def load(path: Path) -> Image.Image:
    """The upright RGB picture. Raises DataError whose message is the reason that is counted: MISSING or UNREADABLE."""
    try:
        return images.decode(path.read_bytes())
    except OSError as error:
        raise DataError(MISSING) from error
    except ImageError as error:
        raise DataError(UNREADABLE) from error


def upright_size(path: Path) -> Size:
    """A picture's size by its header, as it is looked at. Raises DataError like `load`."""
    try:
        return images.upright_size(path)
    except OSError as error:
        raise DataError(MISSING) from error
    except ImageError as error:
        raise DataError(UNREADABLE) from error


class Renaming:
    """Image names as they read from the directory of another list."""

    def __init__(self, source: Path, target: Path) -> None:
        """source, target: the directories of the list that is read and of the one that is written."""
        relative = os.path.relpath(source.resolve(), target.resolve())
        self._prefix = "" if relative == "." else f"{Path(relative).as_posix()}/"

    def __call__(self, name: str) -> str:
        """An absolute name stays what it is."""
        return name if not self._prefix or Path(name).is_absolute() else os.path.normpath(f"{self._prefix}{name}")
