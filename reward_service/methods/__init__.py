"""The scoring methods by name; one file per method: which questions to ask, how to read the answers.

base                what a method is
templates           prompt texts, and conversations made from them
thinking            where the thoughts of a thinking judge end; pure
answers             numbers and reasoning in a text, the position of a score among tokens; pure
score_logit         expected score at one token: the paper, and the default; and a wording of our own
yes_no_logit        p(Yes) relative to No at one token, in both wordings
score_sampling      a written number
score_sampling_cot  a written number after reasoning
score_logit_cot     expected score at the number that follows the reasoning
editscore           two rated questions, as EditScore asks them
unified_reward      the output of a UnifiedReward model
verifier            p(Yes) of every principle
verifier_cot        a written verdict on every principle
composite           several methods in one reward
plugins             methods and measures that a setting adds, by import path
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edit_r1.reward_service.methods import (
    composite,
    editscore,
    score_logit,
    score_logit_cot,
    score_sampling,
    score_sampling_cot,
    unified_reward,
    verifier,
    verifier_cot,
    yes_no_logit,
)
from edit_r1.reward_service.methods.base import Method
from edit_r1.reward_service.methods.plugins import load_plugins
from edit_r1.reward_service.methods.templates import base_prompts
from edit_r1.reward_service.types import Edit, Question

_CONSTRUCTORS = (
    score_logit.method,
    score_logit.direct,
    yes_no_logit.method,
    yes_no_logit.direct,
    score_sampling.method,
    score_sampling_cot.method,
    score_logit_cot.method,
    editscore.method,
    unified_reward.method,
    verifier.method,
    verifier_cot.method,
)


def load_methods(
    prompts: Path | None = None,
    adapters: Collection[str] = (),
    added: Mapping[str, str] | None = None,
    added_options: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Method]:
    """All methods.

    Args:
        prompts: directory of base prompts that replace the built-in ones.
        adapters: names of the engine's LoRA adapters; each serves the method of the same name.
        added: import paths of methods that are not built in, by name.
        added_options: their options, by name.

    Raises:
        ConfigError: a base prompt is invalid, or a method cannot be added.

    """
    template = base_prompts(prompts)
    loaded = [construct(template) for construct in _CONSTRUCTORS]
    names = [*(method.name for method in loaded), composite.NAME]
    loaded += load_plugins(added or {}, added_options or {}, template, names).values()
    methods = {method.name: _adapted(method) if method.name in adapters else method for method in loaded}
    return {**methods, composite.NAME: composite.compose(composite.DEFAULT_RECIPE, methods)}


def _adapted(method: Method) -> Method:
    """The method with its questions answered by the adapter of the same name."""

    def ask(edit: Edit) -> tuple[Question, ...]:
        asked = method.ask(edit)
        return tuple(replace(one, spec=replace(one.spec, adapter=method.name)) for one in asked)

    return replace(method, ask=ask)


METHODS = load_methods()
