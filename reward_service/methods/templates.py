"""Prompt texts (base prompts, task prompts and principles, each a text file) and the conversations built from them.

The three evaluation prompts are from the paper's Appendix C, one paragraph per line; the others are ours. A judge or
a user can replace any of them with a file of the same name in another directory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edit_r1.reward_service.methods.base import Ask
from edit_r1.reward_service.types import Brief, Edit, JudgeImage, Message, Messages, Question, SamplingSpec
from edit_r1.shared.errors import ConfigError
from edit_r1.shared.schemas import DEFAULT_TASK, task_key

PROMPTS_DIRECTORY = Path(__file__).parent / "prompts"
TASKS_DIRECTORY = PROMPTS_DIRECTORY / "tasks"
PRINCIPLES_DIRECTORY = PROMPTS_DIRECTORY / "principles"
SYSTEM_PROMPT = "You are a helpful assistant."
READ_AT_FIRST_TOKEN = ("principle", "ranking", "score", "score_direct", "yes_no", "yes_no_direct")
"""Base prompts whose answer is the probability of a label, so that they may have an answer prefix."""
_ANSWER = ".answer"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def load_template(name: str) -> str:
    """The text of a built-in base prompt, e.g. `score`, with its placeholders `{instruction}` and `{requirement}`."""
    return read_text(PROMPTS_DIRECTORY / f"{name}.txt")


@dataclass(frozen=True)
class BasePrompts:
    """The base prompts: a user's or a judge's own, and the built-in ones for names that these do not have."""

    own: Mapping[str, str]

    def __call__(self, name: str) -> str:
        """The text of a base prompt."""
        return self.own[name] if name in self.own else load_template(name)

    def answer_prefix(self, name: str) -> str:
        """The text that answers are forced to begin with; empty: none.

        It belongs to the prompt that announces it: a replaced prompt has the prefix that comes with it, or none.
        """
        prefix = f"{name}{_ANSWER}"
        if name in self.own or prefix in self.own:
            return self.own.get(prefix, "")
        built_in = PROMPTS_DIRECTORY / f"{prefix}.txt"
        return read_text(built_in) if built_in.exists() else ""


def base_prompts(*directories: Path | None) -> BasePrompts:
    """The base prompts by name: those of the first directory that has the name, else the built-in ones.

    `<name>.answer.txt` is the text that answers to `<name>.txt` are forced to begin with. A text replaced by an earlier
    directory takes its answer prefix with it.

    Raises:
        ConfigError: a file replaces no built-in prompt, or has a placeholder that the built-in one does not have.

    """
    own: dict[str, str] = {}
    for directory in filter(None, directories):
        found = _prompts_in(directory)
        own |= {name: text for name, text in found.items() if not {name, name.removesuffix(_ANSWER)} & own.keys()}
    return BasePrompts(own)


def _prompts_in(directory: Path) -> dict[str, str]:
    """The texts of one directory, checked."""
    own = {path.stem: read_text(path) for path in sorted(directory.glob("*.txt"))}
    names = [path.stem for path in sorted(PROMPTS_DIRECTORY.glob("*.txt")) if not path.stem.endswith(_ANSWER)]
    known = [*names, *(f"{name}{_ANSWER}" for name in names if name in READ_AT_FIRST_TOKEN)]
    for name, text in own.items():
        if name not in known:
            raise ConfigError(f"base prompts in {directory}: {name}.txt is not one of {', '.join(known)}")
        strange = placeholders(text) - (set() if name.endswith(_ANSWER) else placeholders(load_template(name)))
        if strange:
            raise ConfigError(f"base prompts in {directory}: {name}.txt has an unknown placeholder {{{min(strange)}}}")
    if not own:
        raise ConfigError(f"base prompts in {directory}: no *.txt (known: {', '.join(known)})")
    return own


def load_task_prompts(directory: Path) -> dict[str, str]:
    """Task name -> requirement text, one `<task>.txt` per task.

    Raises:
        ConfigError: the directory has no task prompts, or none named `default`.

    """
    return load_by_task(directory, "task prompts")


def load_by_task(directory: Path, what: str) -> dict[str, str]:
    """Task name -> text of its file; raises ConfigError if there is none named `default`."""
    texts = {task_key(path.stem): read_text(path) for path in sorted(directory.glob("*.txt"))}
    if DEFAULT_TASK not in texts:
        raise ConfigError(f"{what} in {directory}: no default.txt (found: {', '.join(texts) or 'nothing'})")
    return texts


def placeholders(template: str) -> set[str]:
    """The names in braces."""
    return set(_PLACEHOLDER.findall(template))


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replace each `{name}` in one pass, so that braces inside values are left alone."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def fill_brief(template: str, brief: Brief, **more: str) -> str:
    """A template with `{instruction}`, `{requirement}` and other placeholders filled in."""
    return fill(template, {"instruction": brief.instruction, "requirement": brief.requirement, **more})


def conversation(images: Sequence[JudgeImage], text: str) -> Messages:
    """Images, then text, in one user turn."""
    return (Message("system", (SYSTEM_PROMPT,)), Message("user", (*images, text)))


def before_and_after(edit: Edit) -> tuple[JudgeImage, ...]:
    """Originals, then the edited image: the order in which every judge sees them, so that a group shares a prefix."""
    return (*edit.brief.sources, edit.candidate)


def asking(template: str, spec: SamplingSpec, answer_prefix: str = "") -> Ask:
    """An `ask` function with one question about originals and edit, as most methods need."""

    def ask(edit: Edit) -> tuple[Question, ...]:
        messages = conversation(before_and_after(edit), fill_brief(template, edit.brief))
        return (Question(messages, spec, answer_prefix),)

    return ask


def read_text(path: Path) -> str:
    """The file's exact text without its final newline: prompts are compared and trained on verbatim."""
    return path.read_text(encoding="utf-8").removesuffix("\n")
