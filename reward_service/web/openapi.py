"""OpenAPI schemas of the bodies that `requests` and `batches` parse themselves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from edit_r1.reward_service.problems import MEDIA_TYPE
from edit_r1.shared.schemas import BatchGroup, EditGroup, JsonScoreRequest, Problem, ScoreOptions

_REFERENCE = "#/components/schemas/{model}"
_FILE = {"type": "string", "format": "binary"}
_MODELS, _DEFINITIONS = models_json_schema(
    [*((model, "validation") for model in (ScoreOptions, JsonScoreRequest, BatchGroup)), (Problem, "serialization")],
    ref_template=_REFERENCE,
)
_JSON_TEXTS = ("principles", "composite")
"""Options that are JSON text in a form, but plain values in a JSON body."""


def score_body() -> dict[str, Any]:
    """The body of a scoring request: a form with files, or JSON."""
    options = _DEFINITIONS["$defs"][ScoreOptions.__name__]
    files = {name: _files(inner) for name, inner in (("source", "sources"), ("candidates", "candidates"))}
    structured = {name: _json_text(options["properties"][name]["description"]) for name in _JSON_TEXTS}
    mask = {"mask": {**_FILE, "description": EditGroup.model_fields["mask"].description}}
    properties = {**files, **mask, **options["properties"], **structured}
    form = {**options, "properties": properties, "required": [*files, *options["required"]]}
    return _body({"multipart/form-data": form, "application/json": _reference(JsonScoreRequest)})


def batch_body() -> dict[str, Any]:
    """The body of a batch request."""
    described = {"description": "The groups; results are in the same order."}
    groups = {"type": "array", "items": _reference(JsonScoreRequest), "minItems": 1, **described}
    named = _json_text("JSON list of groups that name file parts: BatchGroup")
    form = {"type": "object", "properties": {"groups": named}, "required": ["groups"], "additionalProperties": _FILE}
    body = {"type": "object", "properties": {"groups": groups}, "required": ["groups"]}
    return _body({"multipart/form-data": form, "application/json": body})


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """A JSON body with this model's schema."""
    schema = model.model_json_schema(ref_template=_REFERENCE)
    _DEFINITIONS["$defs"] |= schema.pop("$defs", {})
    return _body({"application/json": schema})


def problems() -> dict[int | str, dict[str, Any]]:
    """The error response of every operation."""
    content = {MEDIA_TYPE: {"schema": _reference(Problem)}}
    return {"default": {"description": "RFC 9457 problem details", "content": content}}


def document(app: FastAPI) -> dict[str, Any]:
    """The application's OpenAPI document, including the models that these bodies refer to."""
    if app.openapi_schema is None:
        app.openapi_schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        app.openapi_schema["components"]["schemas"] |= _DEFINITIONS["$defs"]
    return app.openapi_schema


def _files(inner: str) -> dict[str, Any]:
    """A list of at least one file, with the description of the corresponding field of `EditGroup`."""
    return {"type": "array", "items": _FILE, "minItems": 1, "description": EditGroup.model_fields[inner].description}


def _json_text(description: str) -> dict[str, str]:
    return {"type": "string", "contentMediaType": "application/json", "description": description}


def _reference(model: type) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def _body(schemas: dict[str, Any]) -> dict[str, Any]:
    content = {kind: {"schema": schema} for kind, schema in schemas.items()}
    return {"requestBody": {"required": True, "content": content}}
