"""Prompt texts: base prompts beside this file, task prompts from directories, and the conversation made of them.

The base prompts are those of the paper's Appendix C, one paragraph a line. A task prompt ("Requirements") is one text
file a task type; a judge or a user brings their own by naming a directory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from reward_service.types import Edit, Message, Messages
from shared.errors import ConfigError

PROMPTS_DIRECTORY = Path(__file__).parent / "prompts"
TASKS_DIRECTORY = PROMPTS_DIRECTORY / "tasks"
SYSTEM_PROMPT = "You are a helpful assistant."


def load_template(name: str) -> str:
    """The text of a base prompt, e.g. `score`, with its placeholders `{instruction}` and `{requirement}`."""
    return _read(PROMPTS_DIRECTORY / f"{name}.txt")


def load_task_prompts(directory: Path) -> dict[str, str]:
    """Task name -> requirement text, one `<task>.txt` each.

    Raises:
        ConfigError: the directory holds no task prompt, or none called `default`.

    """
    prompts = {task_key(path.stem): _read(path) for path in sorted(directory.glob("*.txt"))}
    if "default" not in prompts:
        raise ConfigError(f"task prompts in {directory}: no default.txt (found: {', '.join(prompts) or 'nothing'})")
    return prompts


def task_key(name: str) -> str:
    """The one spelling of a task's name: `Text Edit` and `text-edit` are `text_edit`."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replace each `{name}` in one pass, so that braces inside a value stay what they are."""
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], template)


def ask(template: str, edit: Edit) -> Messages:
    """The conversation of a base prompt: originals, then the edited image, then the text, in one user turn."""
    text = fill(template, {"instruction": edit.instruction, "requirement": edit.requirement})
    return (
        Message("system", (SYSTEM_PROMPT,)),
        Message("user", (*edit.sources, edit.candidate, text)),
    )


def _read(path: Path) -> str:
    # Exactly the file's text without the newline that ends it: prompts are compared and trained on to the letter.
    return path.read_text(encoding="utf-8").removesuffix("\n")
