"""What OpenAPI says about the bodies that `requests` and `batches` read for themselves, part by part."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from shared.schemas import BatchGroup, JsonScoreRequest, ScoreOptions

_REFERENCE = "#/components/schemas/{model}"
_FILE = {"type": "string", "format": "binary"}
_MODELS, _DEFINITIONS = models_json_schema(
    [(model, "validation") for model in (ScoreOptions, JsonScoreRequest, BatchGroup)], ref_template=_REFERENCE
)


def score_body() -> dict[str, Any]:
    """The body of a scoring request: a form with files, or JSON."""
    options = _DEFINITIONS["$defs"][ScoreOptions.__name__]
    files = {name: {"type": "array", "items": _FILE, "minItems": 1} for name in ("source", "candidates")}
    form = {**options, "properties": {**files, **options["properties"]}, "required": [*files, *options["required"]]}
    return _body({"multipart/form-data": form, "application/json": _reference(JsonScoreRequest)})


def batch_body() -> dict[str, Any]:
    """The same for several groups."""
    groups = {"type": "array", "items": _reference(JsonScoreRequest), "minItems": 1}
    named = {"type": "string", "description": "JSON list of groups that name file parts: BatchGroup"}
    form = {"type": "object", "properties": {"groups": named}, "required": ["groups"], "additionalProperties": _FILE}
    body = {"type": "object", "properties": {"groups": groups}, "required": ["groups"]}
    return _body({"multipart/form-data": form, "application/json": body})


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """A JSON body of this model alone."""
    schema = model.model_json_schema(ref_template=_REFERENCE)
    _DEFINITIONS["$defs"] |= schema.pop("$defs", {})
    return _body({"application/json": schema})


def document(app: FastAPI) -> dict[str, Any]:
    """The application's OpenAPI document with the models that those bodies refer to."""
    if app.openapi_schema is None:
        app.openapi_schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        app.openapi_schema["components"]["schemas"] |= _DEFINITIONS["$defs"]
    return app.openapi_schema


def _reference(model: type) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def _body(schemas: dict[str, Any]) -> dict[str, Any]:
    content = {kind: {"schema": schema} for kind, schema in schemas.items()}
    return {"requestBody": {"required": True, "content": content}}
