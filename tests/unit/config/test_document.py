"""Every operation is described, also one that was added a moment ago."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema_rs
import pytest

from config.api import api

ERROR = {"$ref": "#/components/schemas/ErrorOut"}


@cache
def document() -> dict[str, Any]:
    """Return the document, as JSON says it."""
    found: dict[str, Any] = json.loads(
        json.dumps(api.get_openapi_schema(path_prefix=""))
    )
    return found


def operations() -> dict[str, dict[str, Any]]:
    """Return each operation of the document by its method and path."""
    return {
        f"{method.upper()} {path}": operation
        for path, operations in document()["paths"].items()
        for method, operation in operations.items()
    }


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of the document, or what it refers to."""
    while "$ref" in part:
        found = document()
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def examples(part: Any) -> list[Any]:
    """Return a schema's examples, or those of the parts it is made of."""
    if isinstance(part, list):
        return [found for each in part for found in examples(each)]
    if not isinstance(part, dict):
        return []
    part = resolved(part)
    if "example" in part:
        return [part["example"]]
    return part.get("examples") or examples(list(part.values()))


def contents(part: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the contents of a body or an answer, one for each type."""
    return list(resolved(part).get("content", {}).values())


def test_each_says_what_it_does() -> None:
    for name, operation in operations().items():
        assert operation["summary"], name
        assert operation["description"].endswith("."), name
        assert operation["tags"], name


def test_parameters_are_described() -> None:
    for name, operation in operations().items():
        for parameter in operation["parameters"]:
            where = f"{name}: {parameter['name']}"
            assert parameter["description"], where
            # These would be values with names; a schema's are a list.
            assert "examples" not in parameter, where
            # A header or a query can be left out, and can't be null.
            kinds = parameter["schema"].get("anyOf", [])
            assert {"type": "null"} not in kinds, where


def test_bodies_and_answers_have_examples() -> None:
    for name, operation in operations().items():
        for content in contents(operation.get("requestBody", {})):
            assert examples([content, content["schema"]]), name
        for status, answer in operation["responses"].items():
            for content in contents(answer):
                found = examples([content, content["schema"]])
                assert found, f"{name}: {status}"


def test_errors_are_documented() -> None:
    for name, operation in operations().items():
        check_errors(name, operation)


def check_errors(name: str, operation: dict[str, Any]) -> None:
    method, path = name.split()
    answers = operation["responses"]

    # Then it has those that come before any endpoint, and its own
    expected = {"400", "414", "422"}
    if method != "GET":
        expected |= {"403"}
    if "requestBody" in operation:
        expected |= {"408", "413"}
    if path != "/livez":
        expected |= {"503"}
    if {"If-Match"} & {each["name"] for each in operation["parameters"]}:
        expected |= {"412"}
    if "{" in path and method != "PUT":
        expected |= {"404"}
    assert expected <= answers.keys(), name

    # And each one says what it means, and has the shape of every error
    for status, answer in answers.items():
        if status >= "400" and name != "GET /readyz":
            assert resolved(answer)["description"].endswith("."), name
            found = [each["schema"] for each in contents(answer)]
            assert found == [ERROR], f"{name}: {status}"


def test_examples_are_valid() -> None:
    def schemas(part: Any) -> Iterator[dict[str, Any]]:
        """Yield every schema that has an example."""
        children = part.values() if isinstance(part, dict) else part
        if isinstance(part, dict) and {"example", "examples"} & part.keys():
            yield part
        for child in children:
            if isinstance(child, dict | list):
                yield from schemas(child)

    found = list(schemas(document()["components"]["schemas"]))
    assert found
    for schema in found:
        whole = {**schema, "components": document()["components"]}
        valid = jsonschema_rs.validator_for(whole, validate_formats=True)
        for example in [*schema.get("examples", []), schema.get("example")]:
            if example is not None:
                valid.validate(example)


def test_operations_have_names_of_their_own() -> None:
    names = [each["operationId"] for each in operations().values()]
    assert len(set(names)) == len(names)


def test_no_schema_is_unused() -> None:
    text = json.dumps(document())
    for name in document()["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text


@pytest.mark.parametrize(
    ("time", "is_valid"),
    [
        ({"hours": 0, "minutes": 0, "seconds": 5}, True),
        ({"hours": 0, "minutes": 0, "seconds": 5, "fire_at": None}, True),
        ({"fire_at": "2026-01-31T12:00:00Z"}, True),
        ({"fire_at": "2026-01-31T12:00:00Z", "hours": None}, True),
        ({"fire_at": "2026-01-31T12:00:00", "timezone": "Asia/Tokyo"}, True),
        ({}, False),
        ({"fire_at": None}, False),
        ({"hours": 0, "minutes": 0}, False),
        ({"hours": 0, "minutes": 0, "seconds": None}, False),
        ({"fire_at": "2026-01-31T12:00:00Z", "hours": 0}, False),
        ({"hours": 0, "minutes": 0, "seconds": 5, "timezone": "UTC"}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["TimerIn", "PutIn"])
def test_the_schema_says_which_times_go_together(
    name: str, time: dict[str, Any], is_valid: bool
) -> None:
    schema = {
        "$ref": f"#/components/schemas/{name}",
        "components": document()["components"],
    }
    body = {"url": "https://example.com/hook", **time}
    assert jsonschema_rs.is_valid(schema, body) == is_valid
