"""Image grids: one row per group, the source first, then its candidates."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

CELL, _TEXT = 128, 16


def group_grid(rows: Sequence[tuple[Image.Image, Sequence[tuple[Image.Image, float | None]]]]) -> Image.Image:
    """Each row is (source, [(candidate, reward or None), ...]). Cells are 128 pixels wide, with captions below."""
    columns = 1 + max(len(candidates) for _, candidates in rows)
    grid = Image.new("RGB", (columns * CELL, len(rows) * (CELL + _TEXT)), "white")
    for row, (source, candidates) in enumerate(rows):
        cells = [(picture, "missing" if reward is None else f"{reward:.3f}") for picture, reward in candidates]
        for column, (picture, caption) in enumerate([(source, "source"), *cells]):
            put(grid, picture, caption, (column * CELL, row * (CELL + _TEXT)))
    return grid


def put(grid: Image.Image, picture: Image.Image, caption: str, corner: tuple[int, int]) -> None:
    """Draw an image into a cell of CELL x CELL pixels with this corner, and its caption below."""
    scale = min(CELL / picture.width, CELL / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    # Nearest-neighbour scaling keeps the pixels of small images visible.
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    grid.paste(picture.convert("RGB").resize(size, how), corner)
    ImageDraw.Draw(grid).text((corner[0] + 2, corner[1] + CELL + 1), caption, fill="black")
