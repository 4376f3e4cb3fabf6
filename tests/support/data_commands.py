"""Runs `edit-r1 data` in this process, and helps to write its inputs and read its outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from edit_r1.command import app
from tests.support.serving import picture


def data(*arguments: object) -> str:
    """Run `edit-r1 data ...`; returns its output. Raises the command's exceptions."""
    result = CliRunner().invoke(app, ["data", *map(str, arguments)], env={"COLUMNS": "200"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1), result.output
    return result.output


def write(path: Path, *lines: object) -> Path:
    """Write a file with one line per argument, as JSON unless it is a string."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """The parsed lines of a list."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def row(table: str, name: str) -> int | None:
    """The count next to a name in a printed table; None if the name is missing."""
    cells = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in table.splitlines() if "│" in line]
    return next((int(cell[1].replace(",", "")) for cell in cells if cell[0] == name), None)


def save(path: Path, seed: int = 0, size: tuple[int, int] = (60, 40)) -> Path:
    """Write an image to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).resize(size).save(path)
    return path
