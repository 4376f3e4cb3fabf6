"""Golden edits made by code, for judges that bring none: a room with simple objects, edited rightly and wrongly.

Large enough for the judges of practice (512x384), and so plain that one that cannot rank these is no judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from PIL import Image, ImageDraw, ImageFilter

from edit_r1.shared.golden.edits import Golden
from edit_r1.shared.images import encode
from edit_r1.shared.schemas import EditGroup

SCENES = "scenes"
"""Name of these golden edits where a directory of others can be given."""
Color = tuple[int, int, int]
_SIZE = (512, 384)
_SMOOTH = 2
"""Scenes are drawn this many times larger and scaled down, for smooth edges."""
_HORIZON = 210
_RED, _BLUE, _GREEN, _YELLOW = (204, 40, 36), (38, 84, 204), (44, 150, 62), (234, 186, 30)
_WALL, _PINK = (222, 214, 200), (240, 170, 190)


@dataclass(frozen=True)
class Thing:
    """One object: a ball or a box standing on the table."""

    shape: str
    color: Color
    center: int
    """Horizontal position in pixels."""
    size: int = 90


@dataclass(frozen=True)
class Room:
    """A wall, a table, and things on it."""

    things: Mapping[str, Thing]
    wall: Color = _WALL

    def having(self, **things: Thing) -> Room:
        """The room with these things added or replaced."""
        return replace(self, things={**self.things, **things})

    def without(self, name: str) -> Room:
        """The room without one thing."""
        return replace(self, things={key: thing for key, thing in self.things.items() if key != name})


_BALL, _BOX = Thing("ball", _RED, 150), Thing("box", _YELLOW, 360)
_ROOM = Room({"ball": _BALL, "box": _BOX})
_EDITS: dict[str, tuple[str, str, Room, Room]] = {
    "adjust": (
        "adjust",
        "Change the color of the red ball to blue.",
        _ROOM.having(ball=replace(_BALL, color=_BLUE)),
        _ROOM.having(box=replace(_BOX, color=_BLUE)),
    ),
    "remove": ("remove", "Remove the yellow box.", _ROOM.without("box"), _ROOM.without("ball")),
    "add": (
        "add",
        "Add a green ball between the red ball and the yellow box.",
        _ROOM.having(new=Thing("ball", _GREEN, 255, 70)),
        replace(_ROOM, wall=_PINK),
    ),
    "background": (
        "background",
        "Change the wall behind the table to pink.",
        replace(_ROOM, wall=_PINK),
        _ROOM.having(ball=replace(_BALL, color=_GREEN)),
    ),
}
"""Name -> task, instruction, the room as asked for, a room with another change."""


@cache
def golden_scenes() -> tuple[Golden, ...]:
    """Four golden groups: done, untouched and wrong edits of one photograph-like scene."""
    source = encode(draw(_ROOM))
    return tuple(
        Golden(
            name=name,
            task=task,
            qualities=("done", "untouched", "wrong"),
            group=EditGroup(
                instruction=instruction,
                task=task,
                sources=(source,),
                candidates=(encode(draw(done)), source, encode(draw(wrong))),
            ),
        )
        for name, (task, instruction, done, wrong) in _EDITS.items()
    )


def draw(room: Room) -> Image.Image:
    """The scene as an RGB image of 512x384 pixels."""
    width, height = (_SMOOTH * side for side in _SIZE)
    image = Image.new("RGB", (width, height), room.wall)
    canvas = ImageDraw.Draw(image)
    canvas.rectangle((0, _SMOOTH * _HORIZON, width, height), fill=(148, 104, 66))
    for thing in room.things.values():
        _shade(image, thing)
    for thing in room.things.values():
        _paint(image, thing)
    return image.resize(_SIZE, Image.Resampling.LANCZOS)


def _shade(image: Image.Image, thing: Thing) -> None:
    """A soft shadow below the thing."""
    half, foot = _SMOOTH * thing.size // 2, _SMOOTH * (_HORIZON + 90)
    middle = _SMOOTH * thing.center
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).ellipse((middle - half, foot - half // 4, middle + half, foot + half // 4), fill=110)
    image.paste((60, 40, 26), mask=mask.filter(ImageFilter.GaussianBlur(6 * _SMOOTH)))


def _paint(image: Image.Image, thing: Thing) -> None:
    """The thing, lit from above on the left."""
    side, foot = _SMOOTH * thing.size, _SMOOTH * (_HORIZON + 90)
    left, top = _SMOOTH * thing.center - side // 2, foot - side
    canvas = ImageDraw.Draw(image)
    if thing.shape == "box":
        depth = side // 5
        canvas.rectangle((left, top, left + side, foot), fill=thing.color)
        roof = [(left, top), (left + depth, top - depth), (left + side + depth, top - depth), (left + side, top)]
        canvas.polygon(roof, fill=_mixed(thing.color, (255, 255, 255), 0.35))
        flank = [(left + side, top), (left + side + depth, top - depth), (left + side + depth, foot - depth)]
        canvas.polygon([*flank, (left + side, foot)], fill=_mixed(thing.color, (0, 0, 0), 0.35))
        return
    for step in range(40):  # from the rim to the highlight
        share = step / 39
        inset, shift = side * share / 2.4, side * share / 9
        box = (left + inset - shift, top + inset - shift, left + side - inset - shift, foot - inset - shift)
        canvas.ellipse(box, fill=_mixed(_mixed(thing.color, (0, 0, 0), 0.25), (255, 255, 255), 0.7 * share**2))


def _mixed(color: Color, other: Color, share: float) -> Color:
    red, green, blue = (round((1 - share) * a + share * b) for a, b in zip(color, other, strict=True))
    return red, green, blue
