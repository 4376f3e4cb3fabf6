"""`composite`: several methods in one request, combined into one reward. The images are decoded and encoded once.

A component is a method (`score_logit`) or one of its sub-scores (`verifier.keep`, `editscore.preservation`). A recipe
is a mean of components, or execution x consistency. It asks the questions of every component's method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edit_r1.reward_service.mathematics.aggregation import gated, geometric_mean, least, weighted_mean
from edit_r1.reward_service.mathematics.expectation import normalise
from edit_r1.reward_service.methods.base import Method
from edit_r1.reward_service.types import Answer, Edit, Question, Score
from edit_r1.shared.errors import UnparsableAnswerError
from edit_r1.shared.schemas import Combination, CompositeRecipe, Shaping

NAME = "composite"
DEFAULT_RECIPE = Shaping(rule="shaping", execution="verifier.follow", consistency="verifier.keep")
_MEANS = {"mean": weighted_mean, "geometric": geometric_mean, "min": least}


def unknown_component(recipe: CompositeRecipe, methods: Mapping[str, Method]) -> str | None:
    """A message about the first unknown component of a recipe; None if all of them exist."""
    simple = [method for method in methods.values() if method.name != NAME]
    known = [name for method in simple for name in (method.name, *(f"{method.name}.{part}" for part in method.parts))]
    unknown = [component for component in recipe.components() if component not in known]
    return f"no component {unknown[0]!r}; known: {', '.join(known)}" if unknown else None


def compose(recipe: CompositeRecipe, methods: Mapping[str, Method]) -> Method:
    """A method that asks the questions of all components and combines their scores. All components must exist."""
    names = dict.fromkeys(component.partition(".")[0] for component in recipe.components())
    chosen = [methods[name] for name in names]

    def ask(edit: Edit) -> tuple[Question, ...]:
        return tuple(question for method in chosen for question in method.ask(edit))

    def read(edit: Edit, answers: Sequence[Answer]) -> Score:
        scores = _read_all(chosen, edit, answers)
        return _combined(recipe, chosen, scores)

    return Method(
        name=NAME,
        description="Several methods combined into one reward by the recipe in `composite`; by default the verifier's "
        "execution x consistency.",
        ask=ask,
        read=read,
        raw_score_min=0.0,
        raw_score_max=1.0,
        sampled=any(method.sampled for method in chosen),
        temperature=max(method.temperature for method in chosen),
        reasoning=any(method.reasoning for method in chosen),
        needs_principles=any(method.needs_principles for method in chosen),
        max_tries=max(method.max_tries for method in chosen),
        components=tuple(chosen),
    )


def _read_all(methods: Sequence[Method], edit: Edit, answers: Sequence[Answer]) -> list[Score]:
    """Each method's score from its own share of the answers."""
    scores = []
    for method in methods:
        number = len(method.ask(edit))
        scores.append(method.read(edit, answers[:number]))
        answers = answers[number:]
    return scores


def _combined(recipe: CompositeRecipe, methods: Sequence[Method], scores: Sequence[Score]) -> Score:
    found: dict[str, float] = {}
    for method, score in zip(methods, scores, strict=True):
        found[method.name] = normalise(score.raw_score, method.raw_score_min, method.raw_score_max)
        found |= {f"{method.name}.{part}": value for part, value in score.parts.items()}
    missing = [component for component in recipe.components() if component not in found]
    if missing:
        raise UnparsableAnswerError(f"composite: {missing[0]} has no score for this edit; found: {', '.join(found)}")
    masses = [score.score_mass for score in scores if score.score_mass is not None]
    reasonings = [score.reasoning for score in scores if score.reasoning]
    return Score(
        raw_score=_value(recipe, found),
        score_mass=min(masses) if masses else None,
        reasoning="\n".join(reasonings) or None,
        parts=found,
        details={"components": {m.name: _component(m, s) for m, s in zip(methods, scores, strict=True)}},
    )


def _value(recipe: CompositeRecipe, found: Mapping[str, float]) -> float:
    if isinstance(recipe, Combination):
        values = [found[name] for name in recipe.weights]
        return _MEANS[recipe.rule](values, list(recipe.weights.values()))
    return gated(found[recipe.execution], found[recipe.consistency], recipe.w1, recipe.w2)


def _component(method: Method, score: Score) -> dict[str, object]:
    """A component's own result, as if it had been the only method."""
    return {
        "score": normalise(score.raw_score, method.raw_score_min, method.raw_score_max),
        "raw_score": score.raw_score,
        "distribution": score.distribution,
        "score_mass": score.score_mass,
        **score.details,
    }
