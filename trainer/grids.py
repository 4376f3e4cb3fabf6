"""Pictures of groups in one grid: a row a group, the source first, then its candidates by reward."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

CELL, _TEXT = 128, 16


def group_grid(rows: Sequence[tuple[Image.Image, Sequence[Image.Image], Sequence[float | None]]]) -> Image.Image:
    """rows: (source, G candidates, G rewards, None where missing). Cells are 128 pixels, captions below."""
    columns = 1 + max(len(candidates) for _, candidates, _ in rows)
    grid = Image.new("RGB", (columns * CELL, len(rows) * (CELL + _TEXT)), "white")
    for row, (source, candidates, rewards) in enumerate(rows):
        order = sorted(range(len(rewards)), key=lambda index: -_rank(rewards[index]))
        captions = ["missing" if rewards[index] is None else f"{rewards[index]:.3f}" for index in order]
        cells = [(source, "source"), *zip((candidates[index] for index in order), captions, strict=True)]
        for column, (picture, caption) in enumerate(cells):
            put(grid, picture, caption, (column * CELL, row * (CELL + _TEXT)))
    return grid


def _rank(reward: float | None) -> float:
    return -1.0 if reward is None else reward


def put(grid: Image.Image, picture: Image.Image, caption: str, corner: tuple[int, int]) -> None:
    """Draw a picture into a cell of CELL x CELL pixels at this corner, its caption below."""
    scale = min(CELL / picture.width, CELL / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    # Small pictures keep their pixels visible.
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    grid.paste(picture.convert("RGB").resize(size, how), corner)
    ImageDraw.Draw(grid).text((corner[0] + 2, corner[1] + CELL + 1), caption, fill="black")
