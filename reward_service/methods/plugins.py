"""Methods that the setting `methods` adds: NAME -> `package.module:attribute`, or the name of a measure we ship.

The attribute is a function `method(templates) -> Method`, or a subclass of `Measure`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from edit_r1.reward_service.measures import SHIPPED
from edit_r1.reward_service.measures.base import Measure
from edit_r1.reward_service.methods.base import Method, Templates
from edit_r1.reward_service.types import Answer, Edit, Score
from edit_r1.shared.errors import ConfigError, MeasureError, suggest

Options = Mapping[str, Any]


def load_plugins(
    paths: Mapping[str, str], options: Mapping[str, Options], templates: Templates, taken: Collection[str]
) -> dict[str, Method]:
    """The added methods by name; measures are constructed, but not loaded.

    Args:
        paths: name -> import path.
        options: name -> keyword arguments of the measure's constructor.
        templates: the base prompts.
        taken: names of the built-in methods.

    Raises:
        ConfigError: a name is taken, an import path does not resolve, or a measure does not have these options.

    """
    for name in options:
        if name not in paths:
            raise ConfigError(f"method_options.{name}: no such method is added; added: {', '.join(paths) or 'none'}")
    for name in paths:
        if name in taken or not name.isidentifier():
            raise ConfigError(f"methods.{name}: must be a new name of letters, digits and _; taken: {', '.join(taken)}")
    return {name: _load(name, path, options.get(name, {}), templates) for name, path in paths.items()}


def measured(name: str, measure: Measure) -> Method:
    """The method `name`. Its `read` takes the score from `Edit.measured`, or raises the MeasureError found there."""

    def read(edit: Edit, _answers: Sequence[Answer]) -> Score:
        found = edit.measured[name]
        if isinstance(found, MeasureError):
            raise found
        return found

    return Method(
        name=name,
        description=measure.description,
        ask=lambda _edit: (),
        read=read,
        raw_score_min=measure.raw_score_min,
        raw_score_max=measure.raw_score_max,
        parts=measure.parts,
        measure=measure,
    )


def _load(name: str, path: str, options: Options, templates: Templates) -> Method:
    attribute = _resolve(name, path)
    if inspect.isclass(attribute) and issubclass(attribute, Measure):
        return measured(name, _construct(name, attribute, options))
    if inspect.isclass(attribute) or not callable(attribute):
        raise ConfigError(f"methods.{name} = {path!r}: neither a function that returns a Method nor a Measure class")
    if options:
        raise ConfigError(f"method_options.{name}: {path} is a function, which takes no options")
    return _call(name, path, attribute, templates)


def _resolve(name: str, path: str) -> Any:
    """The attribute at an import path."""
    module, colon, attribute = SHIPPED.get(path, path).partition(":")
    if not colon:
        hint = suggest(path, list(SHIPPED))
        raise ConfigError(f"methods.{name} = {path!r} must be package.module:attribute or a shipped measure; {hint}")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"methods.{name} = {path!r}: {error}") from error


def _construct(name: str, kind: type[Measure], options: Options) -> Measure:
    try:
        inspect.signature(kind).bind(**options)
    except TypeError as error:
        known = ", ".join(inspect.signature(kind).parameters) or "none"
        raise ConfigError(f"method_options.{name}: {error}; options of {kind.__name__}: {known}") from error
    try:
        return kind(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"method_options.{name}: {error}") from error


def _call(name: str, path: str, make: Callable[[Templates], object], templates: Templates) -> Method:
    try:
        method = make(templates)
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(f"methods.{name} = {path!r}: {error}") from error
    if not isinstance(method, Method):
        raise ConfigError(f"methods.{name} = {path!r}: returned {type(method).__name__}, expected a Method")
    return replace(method, name=name)
