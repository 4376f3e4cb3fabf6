"""The scoring methods by name; one file per method: which questions to ask, how to read the answers.

base                what a method is
templates           prompt texts, and conversations made from them
thinking            where the thoughts of a thinking judge end; pure
answers             numbers and reasoning in a text, the position of a score among tokens; pure
score_logit         expected score at one token: the paper, and the default; and a wording of our own
yes_no_logit        p(Yes) relative to No at one token, in both wordings
score_sampling      a written number, at once or after reasoning
score_logit_cot     expected score at the number that follows the reasoning
editscore           two rated questions, as EditScore asks them
unified_reward      the output of a UnifiedReward model, and of one for edits
firm_edit           execution and consistency, as FIRM-Edit rates them
verifier            p(Yes) of every principle
verifier_cot        a written verdict on every principle
ranking             the candidates of a group compared in pairs
composite           several methods in one reward
adapters            methods answered by an adapter, with the questions that it brings
plugins             methods and measures that a setting adds, by import path
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edit_r1.reward_service.methods import (
    composite,
    editscore,
    firm_edit,
    ranking,
    score_logit,
    score_logit_cot,
    score_sampling,
    unified_reward,
    verifier,
    verifier_cot,
    yes_no_logit,
)
from edit_r1.reward_service.methods.adapters import Adapters, adapted, answered_by_adapter, unlike_its_training
from edit_r1.reward_service.methods.base import GroupMethod, Method
from edit_r1.reward_service.methods.plugins import load_plugins
from edit_r1.reward_service.methods.templates import base_prompts

_CONSTRUCTORS = (
    score_logit.method,
    score_logit.direct,
    yes_no_logit.method,
    yes_no_logit.direct,
    score_sampling.method,
    score_sampling.reasoned,
    score_logit_cot.method,
    editscore.method,
    unified_reward.method,
    unified_reward.edit,
    firm_edit.method,
    verifier.method,
    verifier_cot.method,
)


def load_methods(
    prompts: Path | None = None,
    adapters: Adapters | None = None,
    judge_prompts: Path | None = None,
    *,
    added: Mapping[str, str] | None = None,
    added_options: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Method]:
    """All methods.

    Args:
        prompts: directory of base prompts that replace all others.
        adapters: the engine's LoRA adapters; each serves the method of its name, with the base prompts it brings.
        judge_prompts: directory of base prompts that replace the built-in ones.
        added: import paths of methods that are not built in, by name.
        added_options: their options, by name.

    Raises:
        ConfigError: a base prompt is invalid, or a method cannot be added.

    """
    template, adapters = base_prompts(prompts, judge_prompts), adapters or {}
    constructs = {construct(template).name: construct for construct in _CONSTRUCTORS}
    loaded = {
        name: adapted(construct, adapters[name], prompts, judge_prompts) if name in adapters else construct(template)
        for name, construct in constructs.items()
    }
    taken = [*loaded, composite.NAME, ranking.NAME]
    plugins = load_plugins(added or {}, added_options or {}, template, taken)
    loaded |= {name: answered_by_adapter(one) if name in adapters else one for name, one in plugins.items()}
    return {**loaded, composite.NAME: composite.compose(composite.DEFAULT_RECIPE, loaded)}


def adapter_warnings(adapters: Adapters, prompts: Path | None, judge_prompts: Path | None) -> tuple[str, ...]:
    """Warnings about adapters that are asked other questions than they were trained on."""
    constructs = {construct(base_prompts()).name: construct for construct in _CONSTRUCTORS}
    found = (
        unlike_its_training(constructs[name], directory, prompts, judge_prompts)
        for name, directory in adapters.items()
        if name in constructs
    )
    return tuple(filter(None, found))


def load_group_methods(
    prompts: Path | None = None, judge_prompts: Path | None = None, max_opponents: int = ranking.MAX_OPPONENTS
) -> dict[str, GroupMethod]:
    """All methods that compare the candidates of a group; arguments and errors as for `load_methods`."""
    method = ranking.method(base_prompts(prompts, judge_prompts), max_opponents)
    return {method.name: method}


METHODS = load_methods()
GROUP_METHODS = load_group_methods()
