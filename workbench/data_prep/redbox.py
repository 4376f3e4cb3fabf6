"""`edit-r1 data redbox`: draws a red box around an object and writes an instruction for the object inside it.

From annotated images it makes new images with the box, each with a task of type `redbox_control` to adjust, remove or
replace the object; the judge's task prompt for that type requires that the box be gone.
Source: arXiv:2510.16888, Section 3.1.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from PIL import Image, ImageDraw

from edit_r1.shared.errors import DataError
from edit_r1.shared.files import whole_file
from edit_r1.shared.images import content_hash
from edit_r1.shared.sources import FileSource
from edit_r1.trainer.tasks.task_line import TaskLine
from edit_r1.workbench.data_prep import pictures
from edit_r1.workbench.data_prep.formats import LabelledBox, ObjectsLine, to_text
from edit_r1.workbench.data_prep.geometry import PixelBox, clip, line_width, outline
from edit_r1.workbench.data_prep.input_lists import Line
from edit_r1.workbench.data_prep.pictures import Renaming
from edit_r1.workbench.data_prep.resumable_jobs import Outcome, rng_of

TASK = "redbox_control"
Kind = Literal["adjust", "remove", "replace"]
KINDS: tuple[Kind, ...] = get_args(Kind)
COLORS = ("blue", "green", "yellow", "orange", "purple", "pink", "black", "white", "brown", "grey")
"""Target colours of `adjust`; red is excluded, being the colour of the box."""
RED = (255, 0, 0)
OUTSIDE, NO_OBJECT = "object empty or outside its image", "image without a usable object"
RESIZED, NO_NOUN = "image not of the annotated size", "object without a possible replacement"
NOT_CHOSEN = "object beyond --per-picture"
_PHRASES: dict[Kind, tuple[str, ...]] = {
    "remove": ("remove the object in the red box", "take away what is inside the red box"),
    "replace": ("replace the object in the red box with {}", "put {} in place of the object in the red box"),
    "adjust": ("make the object in the red box {}", "change the colour of the object in the red box to {}"),
}


@dataclass(frozen=True)
class Choices:
    """The options of `draw`."""

    kinds: tuple[Kind, ...] = KINDS
    nouns: tuple[str, ...] = ()
    """Replacement objects."""
    per_picture: int = 1
    """Maximum number of objects per image that become tasks."""
    line_fraction: float = 0.008
    """Width of the red line as a fraction of the image's shorter side."""
    seed: int = 0


@dataclass(frozen=True)
class Places:
    """Input and output directories of images."""

    source: Path
    """Directory of the input list."""
    images: Path
    """Directory of the new images."""
    rename: Renaming
    """From the directory of the new images to that of the output list."""


def draw(line: Line[ObjectsLine], choices: Choices, places: Places) -> Outcome:
    """Make the tasks for one image; their images are on disk when it returns."""
    try:
        picture = pictures.load(FileSource(places.source / line.value.image))
    except DataError as error:
        return Outcome(dropped=(str(error),))
    if line.value.size not in (None, picture.size):
        return Outcome(dropped=(RESIZED,))
    rng = rng_of(choices.seed, line.text)
    inside = [found for found in line.value.objects if clip(found.box, picture.size)]
    chosen = rng.sample(inside, min(choices.per_picture, len(inside)))
    tasks = [_task(rng, line, found, picture=picture, choices=choices, places=places) for found in chosen]
    dropped = [OUTSIDE] * (len(line.value.objects) - len(inside)) + [NOT_CHOSEN] * (len(inside) - len(chosen))
    dropped += [NO_NOUN] * tasks.count(None) + ([] if inside else [NO_OBJECT])
    return Outcome(tuple(to_text(task) for task in tasks if task), tuple(dropped))


def boxed(picture: Image.Image, box: PixelBox, width: int) -> Image.Image:
    """A copy with a red line of `width` pixels along the inner edge of the box."""
    copy = picture.copy()
    ImageDraw.Draw(copy).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=RED, width=width)
    return copy


def read_nouns(path: Path) -> tuple[str, ...]:
    """Read a file of nouns, one per line. Raises DataError."""
    try:
        nouns = tuple(dict.fromkeys(filter(None, map(str.strip, path.read_text(encoding="utf-8").splitlines()))))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read nouns {path}: {error}") from error
    if not nouns:
        raise DataError(f"nouns {path} is empty")
    return nouns


def _task(
    rng: random.Random,
    line: Line[ObjectsLine],
    found: LabelledBox,
    *,
    picture: Image.Image,
    choices: Choices,
    places: Places,
) -> TaskLine | None:
    """Make one task; None when the object can only be replaced and there is no replacement for it."""
    possible = {kind: words for kind in choices.kinds if (words := _words(kind, found.label, choices.nouns))}
    if not possible:
        return None
    kind = rng.choice(list(possible))
    prompt = rng.choice(_PHRASES[kind]).format(rng.choice(possible[kind]))
    width = line_width(picture.size, choices.line_fraction)
    box = outline(found.box, picture.size, width)
    name = f"{content_hash(f'{line.text} {box} {width}'.encode())}.png"
    with whole_file(places.images / name) as file:
        boxed(picture, box, width).save(file, "PNG")
    metadata = {"kind": kind, "label": found.label, "box": list(found.box), **_kept(line.value)}
    return TaskLine(prompt=prompt, image=places.rename(name), task=TASK, metadata=metadata)


def _words(kind: Kind, label: str, nouns: Sequence[str]) -> list[str]:
    """Possible fillers of the phrase: a different noun with its article, or a colour not in the object's label."""
    if kind == "replace":
        return [_with_article(noun) for noun in nouns if noun.casefold() != label.casefold()]
    return [color for color in COLORS if color not in label.casefold().split()] if kind == "adjust" else [""]


def _with_article(noun: str) -> str:
    if noun.casefold().startswith(("a ", "an ", "the ", "some ")):
        return noun
    return f"an {noun}" if noun[0].casefold() in "aeiou" else f"a {noun}"


def _kept(line: ObjectsLine) -> dict[str, object]:
    return {"source": line.image, **({"annotation": line.metadata} if line.metadata else {})}
