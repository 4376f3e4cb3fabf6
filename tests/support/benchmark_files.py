"""Small benchmarks in their published layouts, existing edits of them, and the command that evaluates both."""

import io
import json

from PIL import Image
from typer.testing import CliRunner

from edit_r1.command import app
from edit_r1.workbench.evaluation.benchmarks import GEDIT_TASKS
from edit_r1.workbench.evaluation.published import IMGEDIT_COLUMNS
from edit_r1.worlds.shapes.training.editor_model import MAX_TEXT_TOKENS

SIZES = ((32, 32), (48, 32), (64, 40))
SETTINGS = (
    "model.width=32",
    "model.height=32",
    f"model.max_text_tokens={MAX_TEXT_TOKENS}",
    "evaluation.steps=2",
    "cpu_threads=1",
)


def evaluate(*arguments, **environment):
    """Run the command; returns what it printed."""
    ended = CliRunner().invoke(
        app, ["evaluate", *map(str, arguments)], env={"RANK": None, "WORLD_SIZE": None, **environment}
    )
    if ended.exception and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def plain(color, size=(32, 32)):
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def make_imgedit(directory, instruction="make it red"):
    """The layout of ImgEdit's Benchmark.tar: basic_edit.json next to singleturn/."""
    edits = {}
    for number, name in enumerate(IMGEDIT_COLUMNS):
        path = directory / "singleturn" / "animal" / f"{number:09d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(plain((0, 20 * number, 90), SIZES[number % 3]))
        edits[str(number)] = {"id": f"animal/{path.name}", "prompt": f"{instruction} {name}", "edit_type": name}
    (directory / "basic_edit.json").write_text(json.dumps(edits))
    return directory


def gedit_rows(instruction="make it red"):
    """One row per task and language, with the data set's fields."""
    return [
        {
            "task_type": task,
            "key": f"{number:032x}",
            "instruction": instruction if language == "en" else f"{instruction} 变红",
            "instruction_language": language,
            "input_image": {"bytes": plain((0, 15 * number, 60), SIZES[number % 3]), "path": f"{number}.png"},
            "Intersection_exist": number % 4 != 0,
        }
        for number, task in enumerate(GEDIT_TASKS)
        for language in ("en", "cn")
    ]


def make_gedit(directory, instruction="make it red"):
    """An export that needs no pyarrow: gedit.jsonl and images."""
    directory.mkdir()
    lines = []
    for row in gedit_rows(instruction):
        image = row["input_image"]
        (directory / image["path"]).write_bytes(image["bytes"])
        lines.append(json.dumps({**row, "input_image": image["path"]}))
    (directory / "gedit.jsonl").write_text("\n".join(lines))
    return directory


def make_pictures(directory, keys, red, suffix="png"):
    """Existing edits: image i has a red level of red[i] out of 255."""
    for key, level in zip(keys, red, strict=True):
        path = directory / f"{key}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (level, 0, 0)).save(path)
    return directory


def results(out):
    return json.loads((out / "results.json").read_text())
