"""`edit-r1 data rationality`: asks a multimodal model whether an instruction makes sense for its image (Yes or No).

Keeps, in order, the tasks for which the model behind an OpenAI-compatible endpoint answers Yes. Transient errors are
retried; a judgement that fails permanently ends the command, which resumes there when run again.
Source: arXiv:2510.16888, Section 3.1 (which uses Qwen2.5-VL-32B); the question is ours.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from edit_r1.shared import images
from edit_r1.shared.errors import ConfigError, DataError
from edit_r1.shared.sources import FileSource
from edit_r1.trainer.tasks.task_line import TaskLine
from edit_r1.workbench.clients.chat import ChatClient, Part, picture_part, text_part
from edit_r1.workbench.clients.spending import QuestionSize
from edit_r1.workbench.data_prep import pictures
from edit_r1.workbench.data_prep.formats import renamed
from edit_r1.workbench.data_prep.input_lists import Line
from edit_r1.workbench.data_prep.pictures import Renaming
from edit_r1.workbench.data_prep.resumable_jobs import Outcome, Say

NO, UNCLEAR = "answer No", "unclear"
QUESTION_PATH = Path(__file__).parent / "texts" / "rationality.txt"
ANSWER_TOKENS = 16
"""Default limit of an answer in tokens; only the first word counts, but a model that thinks needs more."""
_SIZED = 32
"""Number of tasks whose sizes are read for an estimate."""
_PLACEHOLDER = "{instruction}"
_SHOWN = 120


@dataclass(frozen=True)
class Question:
    """The question asked about every task."""

    text: str
    """Question text, with `{instruction}` as placeholder."""
    max_pixels: int
    """Larger images are downscaled to this many pixels."""

    def parts(self, sources: Iterable[Path], instruction: str) -> list[Part]:
        """The message about one task. Raises DataError for an unreadable image."""
        shown = [
            picture_part(images.encode(_shrunk(pictures.load(FileSource(path)), self.max_pixels))) for path in sources
        ]
        return [*shown, text_part(self.text.replace(_PLACEHOLDER, instruction))]

    def size(self, sources: Iterable[Path], instruction: str) -> QuestionSize:
        """The size of that message, read from the images' headers. Raises DataError for an unreadable image."""
        sizes = [FileSource(path).size() for path in sources]
        pixels = tuple(min(width * height, self.max_pixels) for width, height in sizes)
        return QuestionSize(len(self.text) - len(_PLACEHOLDER) + len(instruction), pixels)


def sizes(lines: Iterable[Line[TaskLine]], question: Question, directory: Path) -> list[QuestionSize]:
    """Sizes of the first questions; tasks without readable images are skipped."""
    found = []
    for line in itertools.islice(lines, _SIZED):
        with suppress(DataError):
            found.append(question.size([directory / name for name in line.value.names], line.value.prompt))
    return found


async def keep(
    line: Line[TaskLine], *, client: ChatClient, question: Question, directory: Path, rename: Renaming, say: Say
) -> Outcome:
    """Keep the line if the model answers Yes; `directory` is the directory of the list. Raises like ChatClient.ask.

    Raises ConfigError also when the answer is cut off before its first word, as the next ones would be.
    """
    sources = [directory / name for name in line.value.names]
    try:
        reply = await client.ask(partial(question.parts, sources, line.value.prompt))
    except DataError as error:
        return Outcome(dropped=(str(error),))
    if reply.cut and not reply.text:
        limit = client.endpoint.max_tokens
        raise ConfigError(
            f"line {line.number}: the model was still thinking at the limit of {limit} tokens; raise --max-tokens "
            f"(finished work is kept)"
        )
    verdict = read_verdict(reply.text)
    if verdict is None:
        say(f"line {line.number}: unclear answer {(reply.declined or reply.text)[:_SHOWN]!r}")
        return Outcome(dropped=(UNCLEAR,))
    return Outcome((renamed(line.value, rename),)) if verdict else Outcome(dropped=(NO,))


def read_verdict(answer: str) -> bool | None:
    """True for Yes, False for No, judging by the answer's first word; None for anything else."""
    first = re.match(r"\W*(\w+)", answer)
    return {"yes": True, "no": False}.get(first[1].casefold()) if first else None


def read_question(path: Path) -> str:
    """Read the question. Raises DataError when it lacks the instruction placeholder."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read question {path}: {error}") from error
    if _PLACEHOLDER not in text:
        raise DataError(f"question {path} must contain {_PLACEHOLDER}")
    return text


def _shrunk(picture: Image.Image, max_pixels: int) -> Image.Image:
    scale = math.sqrt(max_pixels / (picture.width * picture.height))
    if scale >= 1:
        return picture
    size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)
