"""Generates the reference pages' lists from the programs at build time, so that they cannot go out of date.

Replaces the markers in a page's Markdown, using the OpenAPI document of `create_app(Settings())`, which loads no judge,
and the JSON schemas of the two configurations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edit_r1.reward_service.app import create_app
from edit_r1.reward_service.settings import Settings
from edit_r1.trainer.config import TrainConfig

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

_ROOT = Path(__file__).resolve().parents[2]
_LINKED = re.compile(r"\[(\w+)\]\(#\w+\)")
_FIELDS_HEAD = "| field | type | default | |\n| --- | --- | --- | --- |"
_KEYS_HEAD = "| key | type | default | |\n| --- | --- | --- | --- |"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs' names
    """Replace each marker of a reference page by its generated text."""
    for marker, write in _MARKERS.get(page.file.src_uri, {}).items():
        if marker not in markdown:
            raise ValueError(f"docs/{page.file.src_uri} lacks the marker {marker}, which generated text replaces")
        markdown = markdown.replace(marker, write())
    return markdown


def operations() -> str:
    """The service's routes and models."""
    return render(create_app(Settings()).openapi())


def service_settings() -> str:
    """The service's settings as flags."""
    rows = (
        (f"--{name.replace('_', '-')}", field) for name, field in Settings.model_json_schema()["properties"].items()
    )
    return "\n".join([_KEYS_HEAD.replace("key", "flag"), *(_key(name, field) for name, field in rows)])


def training_keys() -> str:
    """The trainer's keys, section by section."""
    schema = TrainConfig.model_json_schema()
    sections: dict[str, list[str]] = {"": []}
    for name, field in schema["properties"].items():
        section = schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {})
        if "properties" not in section:
            sections[""].append(_key(name, field, required=name in schema["required"]))
            continue
        needed = section.get("required", ())
        keys = [_key(f"{name}.{key}", value, required=key in needed) for key, value in section["properties"].items()]
        for key, value in section["properties"].items():
            keys += _item_keys(f"{name}.{key}", value, schema["$defs"])
        sections[f"### {name}\n\n{_text(section)}"] = keys
    return "\n\n".join(f"{title}\n\n{_KEYS_HEAD}\n" + "\n".join(rows) for title, rows in sections.items())


def _key(name: str, field: Mapping[str, Any], *, required: bool = False) -> str:
    default = "required" if required else _default(field)
    return f"| `{name}` | {_plain_type(field)} | {default} | {_text(field)} |"


def _item_keys(name: str, field: Mapping[str, Any], models: Mapping[str, Any]) -> Iterator[str]:
    """The keys of each item, where the field is a list of models."""
    for option in field.get("anyOf", [field]):
        model = models.get(option.get("items", {}).get("$ref", "").rpartition("/")[2], {})
        for key, value in model.get("properties", {}).items():
            yield _key(f"{name}[].{key}", value, required=key in model.get("required", ()))


def _plain_type(field: Mapping[str, Any]) -> str:
    """A type in words, without links, since configuration models have no page."""
    return _LINKED.sub(r"\1", _type(field))


def render(document: Mapping[str, Any]) -> str:
    """An OpenAPI document as Markdown: operations by path, then the models they refer to."""
    lines = ["## Operations"]
    for path, operations in sorted(document["paths"].items(), key=_other_clients_last):
        for verb, operation in operations.items():
            lines += _operation(f"{verb.upper()} {path}", operation)
    lines += ["## Models"]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += [f"### {name} {{#{name.lower()}}}", _text(schema), *_fields(schema)]
    return "\n\n".join(line for line in lines if line)


def _other_clients_last(item: tuple[str, object]) -> bool:
    return not item[0].startswith("/v1/")


def _operation(title: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"### `{title}`"
    yield _text(operation)
    if "security" in operation:
        yield "Requires the API key if the service has one."
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"**Body** `{kind}`{_named(content['schema'])}"
        yield from _fields(content["schema"])
    for kind, content in operation["responses"]["200"].get("content", {}).items():
        yield f"**Response** `{kind}`{_named(content['schema'])}"


def _named(schema: Mapping[str, Any]) -> str:
    """The body's type after a colon; empty if a table of its fields follows."""
    return "" if "properties" in schema else f": {_type(schema)}"


def _fields(schema: Mapping[str, Any]) -> Iterator[str]:
    """The table of an object's fields; nothing if it has none."""
    named: Mapping[str, Any] = schema.get("properties", {})
    if not named:
        return
    rows = [_FIELDS_HEAD]
    for name, field in named.items():
        default = "required" if name in schema.get("required", ()) else _default(field)
        rows.append(f"| `{name}` | {_type(field)} | {default} | {_text(field)} |")
    if _is_file(schema.get("additionalProperties")):
        rows.append("| any other name | file | | An image that groups refer to by this name. |")
    yield "\n".join(rows)


def _default(field: Mapping[str, Any]) -> str:
    value = field.get("default")
    # The embedded judge's default path is absolute: make it relative to the checkout.
    return "" if value in (None, "", {}, []) else f"`{json.dumps(value).replace(f'{_ROOT}/', '')}`"


def _type(schema: Mapping[str, Any]) -> str:
    """A type in words, linked if it is a model."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(option) for option in options if option.get("type") != "null"))
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if _is_file(schema):
        return "file"
    if schema.get("type") == "array" and "items" in schema:
        item = _type(schema["items"])
        return f"list of ({item})" if " or " in item else f"list of {item}"
    return str(schema.get("type", "anything")) + _bounds(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    """The bounds of a number, after a comma; empty if there are none."""
    if "minimum" in schema and "maximum" in schema:
        return f", {schema['minimum']:g} to {schema['maximum']:g}"
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return "".join(f", {word} {schema[key]:g}" for key, word in words.items() if key in schema)


def _is_file(schema: object) -> bool:
    return isinstance(schema, Mapping) and schema.get("format") == "binary"


def _text(schema: Mapping[str, Any]) -> str:
    """The description on one line."""
    return " ".join(str(schema.get("description", "")).split()).replace("|", "\\|")


_MARKERS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "http-api.md": {"<!-- operations -->": operations},
    "configuration.md": {"<!-- training -->": training_keys, "<!-- service -->": service_settings},
}
"""Page -> marker -> function that generates its replacement."""
