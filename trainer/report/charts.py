"""Line charts of named (x, y) series as SVG: an <svg> element for a page, or a standalone file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 460, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 14, 34
_COLORS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626")
_NUM_TICKS = 5
_LEGEND_HEIGHT, _LETTER, _DOT = 14, 6.5, 12
"""Height of a legend row; width of a letter and of a dot in it."""


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: tuple[tuple[float, float], ...]
    """(x, y), sorted by x."""
    marked: bool = False
    """Draw a dot at every point, for series with few points."""
    color: int | None = None
    """Index of its colour, for series that belong together; by default its position."""
    dashed: bool = False
    """Draw it dashed with hollow dots."""


@dataclass(frozen=True)
class _Axes:
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        """Pixels from the left."""
        return _LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        return _TOP + (self.y_high - value) / (self.y_high - self.y_low) * (_HEIGHT - _TOP - _BOTTOM)


def line_chart(series: Sequence[Series], x_label: str) -> str:
    """An <svg> of all series that have points, with axes and a legend; empty when none has."""
    drawn = [one for one in series if one.points]
    if not drawn:
        return ""
    axes = _fit(drawn)
    numbers = (index if one.color is None else one.color for index, one in enumerate(drawn))
    colors = [_COLORS[number % len(_COLORS)] for number in numbers]
    columns = _legend_columns(drawn)
    # The legend's first row is part of _HEIGHT.
    height = _HEIGHT + (math.ceil(len(drawn) / columns) - 1) * _LEGEND_HEIGHT
    parts = [_grid(axes, x_label)]
    for index, (one, color) in enumerate(zip(drawn, colors, strict=True)):
        parts += [_line(one, axes, color), _legend(one, color, index, columns)]
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">{"".join(parts)}</svg>'


def standalone(svg: str, title: str) -> str:
    """A chart as a standalone file with a title and a white background, for Markdown."""
    style = "text{font:11px system-ui,sans-serif;fill:#333}.grid{stroke:#ddd}"
    ground = f'<rect width="100%" height="100%" fill="#fff"/><text x="{_LEFT}" y="11">{escape(title)}</text>'
    start, inside = svg.split(">", maxsplit=1)
    return f'{start} xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}"><style>{style}</style>{ground}{inside}\n'


def _fit(series: Sequence[Series]) -> _Axes:
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    step = _nice_step(max(ys) - min(ys) or abs(max(ys)) or 1.0)
    y_low, y_high = math.floor(min(ys) / step) * step, math.ceil(max(ys) / step) * step
    return _Axes(min(xs), max(*xs, min(xs) + 1), y_low, max(y_high, y_low + step))


def _nice_step(span: float) -> float:
    """A tick distance of 1, 2 or 5 times a power of ten that divides `span` into about five parts."""
    rough = span / _NUM_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def _grid(axes: _Axes, x_label: str) -> str:
    parts = []
    step = _nice_step(axes.y_high - axes.y_low)
    for i in range(round((axes.y_high - axes.y_low) / step) + 1):
        value = axes.y_low + i * step
        y = axes.y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    parts.extend(
        f'<text x="{axes.x(value):.1f}" y="{_HEIGHT - 18}" text-anchor="middle">{value:.4g}</text>'
        for value in (axes.x_low, (axes.x_low + axes.x_high) / 2)
    )
    last = f"{escape(x_label)} {axes.x_high:.4g}"
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 18}" text-anchor="end">{last}</text>')
    return "".join(parts)


def _line(series: Series, axes: _Axes, color: str) -> str:
    places = [(axes.x(x), axes.y(y)) for x, y in series.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dashes = ' stroke-dasharray="5 3"' if series.dashed else ""
    dots = places if series.marked or len(places) == 1 else []
    circles = "".join(_dot(x, y, 3.5, color, hollow=series.dashed) for x, y in dots)
    return f'<polyline fill="none" stroke="{color}" stroke-width="1.8"{dashes} points="{path}"/>{circles}'


def _legend_columns(series: Sequence[Series]) -> int:
    """As many columns as fit the longest name, up to three."""
    widest = _DOT + _LETTER * max(len(one.name) for one in series)
    return max(1, min(3, int((_WIDTH - _LEFT) / widest)))


def _legend(series: Series, color: str, index: int, columns: int) -> str:
    row, column = divmod(index, columns)
    x, y = _LEFT + column * (_WIDTH - _LEFT) / columns, _HEIGHT - 4 + row * _LEGEND_HEIGHT
    dot = _dot(x + 4, y - 4, 4, color, hollow=series.dashed)
    return f'{dot}<text x="{x + _DOT:.1f}" y="{y}">{escape(series.name)}</text>'


def _dot(x: float, y: float, radius: float, color: str, *, hollow: bool) -> str:
    # Hollow dots are transparent, since the background is the page's; a dash showing through is harmless.
    look = f'fill="none" stroke="{color}" stroke-width="1.5"' if hollow else f'fill="{color}"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" {look}/>'
