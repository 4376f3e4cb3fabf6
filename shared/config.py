"""Configuration: turns a YAML file and dotted overrides into a frozen model, or one error that lists every mistake.

    load_config(TrainConfig, Path("nft.yaml"), ["reward.url=http://127.0.0.1:8000", "epochs=4"])

Every program loads its configuration here, so error messages look the same everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from edit_r1.shared.errors import ConfigError, fault_line, suggest

Model = TypeVar("Model", bound=BaseModel)


class ConfigModel(BaseModel):
    """Base of every configuration section: frozen, rejects unknown keys, validates defaults too.

    The docstring under a field is its description.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with YAML 1.2 floats: `3e-4` is a number, not a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def load_config(model: type[Model], path: Path | None, overrides: Sequence[str] = ()) -> Model:
    """Read a YAML file, apply `dotted.key=value` overrides in order, and validate.

    Override values are parsed as YAML: `epochs=4` is a number, `resume=null` is None and `tasks=[add, remove]` a list.
    Fields with `repr=False` are secrets: no message shows them, and an override's value is their text: `api_key=0123`.

    Raises:
        ConfigError: unreadable file, malformed override, unknown key (with the nearest known name), or wrong value.

    """
    secrets = Secrets.of(model)
    values = {} if path is None else _read_yaml(path, secrets)
    for override in overrides:
        _apply(values, override, secrets)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        where = "configuration" if path is None else str(path)
        faults = [f"  {_describe(model, fault, secrets)}" for fault in error.errors()]
        raise ConfigError("\n".join([f"{where} is not valid:", *faults])) from error


def dump_config(config: BaseModel) -> str:
    """The resolved configuration as YAML; `load_config` reads it back to an equal model."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path, secrets: Secrets) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read configuration {path}: {error}") from error
    try:
        values = yaml.load(text, Loader=_Loader)  # noqa: S506 - derives from SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {secrets.yaml_fault(error, text)}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must contain keys and values, found a {type(values).__name__}")
    return values


def _apply(values: dict[str, Any], override: str, secrets: Secrets) -> None:
    name, equals, text = override.partition("=")
    shown = secrets.masked(override)
    *sections, key = name.strip().split(".")
    if not equals or not key or not all(sections):
        raise ConfigError(f"override {shown!r} must have the form dotted.key=value")
    for section in sections:
        if values.get(section) is None:
            values[section] = {}
        values = values[section]
        if not isinstance(values, dict):
            raise ConfigError(f"override {shown!r}: {section!r} is a value, not a section")
    try:
        values[key] = yaml.load(text, Loader=_Loader)  # noqa: S506 - derives from SafeLoader
    except yaml.YAMLError as error:
        if key in secrets.names:
            values[key] = text
            return
        fault = secrets.yaml_fault(error, override)
        value = repr(text) if shown == override else "the value"
        raise ConfigError(f"override {shown!r}: {value} is not a YAML value: {fault}") from None
    if key in secrets.names and not isinstance(values[key], str | None):
        values[key] = text  # 0123 is a key, not the number 83


def _describe(model: type[BaseModel], fault: ErrorDetails, secrets: Secrets) -> str:
    """One line for one validation error, e.g. `reward.ulr: unknown key; did you mean 'url'?`."""
    name = ".".join(str(part) for part in fault["loc"]) or "(whole)"
    if fault["type"] == "extra_forbidden":
        return f"{name}: unknown key; {suggest(str(fault['loc'][-1]), _names_at(model, fault['loc'][:-1]))}"
    if fault["type"] == "missing":
        return f"{name}: required, but not given"
    if not secrets.names.isdisjoint(map(str, fault["loc"])):
        quotes = "; put it in quotes (the value is not shown)" if fault["type"] == "string_type" else ""
        return f"{fault_line(fault)}{quotes}"
    found = "" if isinstance(fault["input"], dict) else f" (found {secrets.masked(repr(fault['input']))})"
    return f"{fault_line(fault)}{found}"


@dataclass(frozen=True)
class Secrets:
    """Fields whose values no message may show: those that a model declares with `repr=False`."""

    names: frozenset[str]

    @classmethod
    def of(cls, model: type[BaseModel]) -> Secrets:
        """The secrets of a model and its sections."""
        return cls(
            frozenset(
                name for section in _sections(model) for name, field in section.model_fields.items() if not field.repr
            )
        )

    def masked(self, text: str) -> str:
        """The text up to the first secret's name."""
        found = self._found(text)
        return text if found is None else f"{text[: found.end()]}..."

    def yaml_fault(self, error: yaml.YAMLError, text: str) -> str:
        """What is wrong with a YAML text; without quoting it when it names a secret."""
        if self._found(text) is None:
            return str(error)
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return f"there is a mistake{place} (not shown, because the text holds a secret)"

    def _found(self, text: str) -> re.Match[str] | None:
        """The first secret's name in a text."""
        return re.search(rf"\b({'|'.join(map(re.escape, self.names))})\b", text) if self.names else None


def _sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for section in _models_in(field.annotation):
            yield from _sections(section)


def _names_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Field names of the section(s) at the location of a validation error."""
    models = {model}
    for part in location:
        # A part that is not a field is an index, a dict key or a union tag: keep the current models.
        fields = [m.model_fields[part] for m in models if isinstance(part, str) and part in m.model_fields]
        models = {found for field in fields for found in _models_in(field.annotation)} or models
    return sorted({name for m in models for name in m.model_fields})


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
