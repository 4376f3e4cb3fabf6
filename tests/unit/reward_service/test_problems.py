"""Rejections, and how the OpenAPI document describes them and everything else."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from edit_r1.reward_service.app import create_app
from edit_r1.reward_service.problems import MEDIA_TYPE, ProblemError
from edit_r1.reward_service.settings import Settings


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The OpenAPI document of a service that has not loaded a judge."""
    found: dict[str, Any] = TestClient(create_app(Settings())).get("/openapi.json").json()
    return found


@pytest.mark.parametrize(("status", "told"), [(429, True), (503, True), (422, False), (500, False)])
def test_a_refusal_that_passes_says_when_to_come_back(status, told):
    assert ("Retry-After" in ProblemError(status, "code", "detail").headers) == told


def test_every_operation_refuses_with_a_problem_document(document):
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) > 10
    for operation in operations:
        refusal = operation["responses"]["default"]["content"]
        assert refusal == {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}


def test_every_model_that_the_document_names_is_in_it(document):
    def named(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(named, value))
        if not isinstance(value, dict):
            return set()
        return {value["$ref"]} if "$ref" in value else set().union(*map(named, value.values()))

    there = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert "#/components/schemas/PrincipleSpec" in named(document)
    assert named(document) <= there


def test_a_form_takes_structure_as_json_text(document):
    bodies = document["paths"]["/v1/score"]["post"]["requestBody"]["content"]
    for name in ("principles", "composite"):
        field = bodies["multipart/form-data"]["schema"]["properties"][name]
        assert (field["type"], field["contentMediaType"]) == ("string", "application/json")


def test_every_field_of_the_wire_is_described(document):
    bodies = [
        content["schema"]
        for path in document["paths"].values()
        for operation in path.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
    ]
    bare = [
        (model.get("title"), name)
        for model in (*document["components"]["schemas"].values(), *bodies)
        for name, field in model.get("properties", {}).items()
        if not field.get("description")
    ]
    assert bare == []
