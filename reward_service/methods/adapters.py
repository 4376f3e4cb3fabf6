"""Methods answered by a LoRA adapter of their name, asked with the questions that the adapter brings with it.

An adapter's directory may contain `prompts/`, base prompts for its method only. Texts are taken from the user's
directory, the adapter's, the judge's, and the built-in ones, in this order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edit_r1.reward_service.methods.base import Method, Templates
from edit_r1.reward_service.methods.templates import BasePrompts, base_prompts
from edit_r1.reward_service.types import Edit, Question
from edit_r1.shared.errors import ConfigError

PROMPTS_NAME = "prompts"
"""Name of the directory of base prompts inside an adapter's."""
Adapters = Mapping[str, Path]
"""Method -> directory of its adapter."""
Construct = Callable[[Templates], Method]


@dataclass(frozen=True)
class _Noted:
    """Base prompts that remember which of them a method asks for."""

    prompts: BasePrompts
    asked: set[str] = field(default_factory=set)

    def __call__(self, name: str) -> str:
        self.asked.add(name)
        return self.prompts(name)

    def answer_prefix(self, name: str) -> str:
        return self.prompts.answer_prefix(name)


def adapted(construct: Construct, adapter: Path, prompts: Path | None, judge_prompts: Path | None) -> Method:
    """The method with its questions asked in the adapter's words and answered by the adapter.

    Raises:
        ConfigError: one of the adapter's base prompts is invalid, or its method does not ask it.

    """
    own = _own(adapter)
    noted = _Noted(base_prompts(prompts, own, judge_prompts))
    method = construct(noted)
    strangers = sorted({name.partition(".")[0] for name in base_prompts(own).own} - noted.asked)
    if strangers:
        raise ConfigError(
            f"base prompts in {own}: {strangers[0]}.txt is not asked by {method.name}, which asks "
            f"{', '.join(sorted(noted.asked))}"
        )
    return answered_by_adapter(method)


def answered_by_adapter(method: Method) -> Method:
    """The method with its questions answered by the adapter of its name."""

    def ask(edit: Edit) -> tuple[Question, ...]:
        return tuple(replace(one, spec=replace(one.spec, adapter=method.name)) for one in method.ask(edit))

    return replace(method, ask=ask)


def unlike_its_training(
    construct: Construct, adapter: Path, prompts: Path | None, judge_prompts: Path | None
) -> str | None:
    """A warning if the method's models were trained on published questions, and the adapter is asked ours instead."""
    noted = _Noted(base_prompts(prompts, _own(adapter), judge_prompts))
    method = construct(noted)
    ours = sorted(noted.asked - noted.prompts.own.keys())
    if not method.published_at or not ours:
        return None
    return (
        f"the adapter of {method.name} in {adapter} is asked our own questions; it was probably trained on those of "
        f"{method.published_at}: put them into {adapter / PROMPTS_NAME} as {', '.join(f'{name}.txt' for name in ours)} "
        "(docs/reward-service.md)"
    )


def _own(adapter: Path) -> Path | None:
    directory = adapter / PROMPTS_NAME
    return directory if directory.is_dir() else None
