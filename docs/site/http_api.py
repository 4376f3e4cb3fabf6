"""The page of the HTTP API, written at build time out of the service's own OpenAPI document, so that it cannot drift.

Enters: the markdown of docs/http-api.md with its marker, and the document of `create_app(Settings())`, which loads no
judge. Leaves: markdown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from reward_service.app import create_app
from reward_service.settings import Settings

_PAGE = "http-api.md"
_MARKER = "<!-- operations -->"
_FIELDS_HEAD = "| field | type | default | |\n| --- | --- | --- | --- |"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs' names
    """Put the operations and models in the place of the marker."""
    if page.file.src_uri != _PAGE:
        return markdown
    if _MARKER not in markdown:
        raise ValueError(f"docs/{_PAGE} has no line {_MARKER}, which the operations stand for")
    return markdown.replace(_MARKER, render(create_app(Settings()).openapi()))


def render(document: Mapping[str, Any]) -> str:
    """An OpenAPI document as markdown: operations by path, then the models that they name."""
    lines = ["## Operations"]
    for path, operations in document["paths"].items():
        for verb, operation in operations.items():
            lines += _operation(f"{verb.upper()} {path}", operation)
    lines += ["## Models"]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += [f"### {name} {{#{name.lower()}}}", _text(schema), *_fields(schema)]
    return "\n\n".join(line for line in lines if line)


def _operation(title: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"### `{title}`"
    yield _text(operation)
    if "security" in operation:
        yield "Needs the key, where the service has one."
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"**Body** `{kind}`: {_type(content['schema'])}"
        yield from _fields(content["schema"])
    for kind, content in operation["responses"]["200"].get("content", {}).items():
        named = _type(content["schema"]) if content["schema"] else "text"
        yield f"**Answer** `{kind}`: {named}"


def _fields(schema: Mapping[str, Any]) -> Iterator[str]:
    """The table of an object's fields; nothing for what has none."""
    named: Mapping[str, Any] = schema.get("properties", {})
    if not named:
        return
    rows = [_FIELDS_HEAD]
    for name, field in named.items():
        default = "required" if name in schema.get("required", ()) else _default(field)
        rows.append(f"| `{name}` | {_type(field)} | {default} | {_text(field)} |")
    if _is_file(schema.get("additionalProperties")):
        rows.append("| any other name | file | | An image that groups name. |")
    yield "\n".join(rows)


def _default(field: Mapping[str, Any]) -> str:
    value = field.get("default")
    return "" if value in (None, "", {}, []) else f"`{value}`"


def _type(schema: Mapping[str, Any]) -> str:
    """A type in words, linked where it is a model."""
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
        return f"list of {_type(schema['items'])}"
    return str(schema.get("type", "anything"))


def _is_file(schema: object) -> bool:
    return isinstance(schema, Mapping) and schema.get("format") == "binary"


def _text(schema: Mapping[str, Any]) -> str:
    """A description on one line."""
    return " ".join(str(schema.get("description", "")).split()).replace("|", "\\|")
