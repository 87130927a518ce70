"""Every operation is described, also one that was added a moment ago."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from config.api import api

DOCUMENT = json.loads(json.dumps(api.get_openapi_schema(path_prefix="")))
OPERATIONS: dict[str, dict[str, Any]] = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
ERROR = {"$ref": "#/components/schemas/ErrorOut"}

every_operation = pytest.mark.parametrize(
    "name", OPERATIONS, ids=lambda name: name.replace("/", "|")
)


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of the document, or what it refers to."""
    while "$ref" in part:
        found = DOCUMENT
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


@every_operation
def test_it_says_what_it_does(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["description"].endswith(".")
    assert operation["tags"]


@every_operation
def test_its_parameters_are_described(name: str) -> None:
    for parameter in OPERATIONS[name]["parameters"]:
        assert parameter["description"], parameter["name"]
        # These would be values with names; a schema's are a list.
        assert "examples" not in parameter, parameter["name"]
        # A header or a query can be left out, and can't be null.
        assert {"type": "null"} not in parameter["schema"].get("anyOf", [])


@every_operation
def test_its_body_and_its_answers_have_examples(name: str) -> None:
    operation = OPERATIONS[name]
    for content in contents(operation.get("requestBody", {})):
        assert examples([content, content["schema"]])
    for status, answer in operation["responses"].items():
        for content in contents(answer):
            assert examples([content, content["schema"]]), status


@every_operation
def test_its_errors_are_documented(name: str) -> None:
    method, path = name.split()
    operation = OPERATIONS[name]
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
    assert expected <= answers.keys()

    # And each one says what it means, and has the shape of every error
    for status, answer in answers.items():
        if status >= "400" and name != "GET /readyz":
            assert resolved(answer)["description"].endswith(".")
            assert [each["schema"] for each in contents(answer)] == [ERROR]


def test_its_examples_are_valid() -> None:
    def schemas(part: Any) -> Iterator[dict[str, Any]]:
        """Yield every schema that has an example."""
        children = part.values() if isinstance(part, dict) else part
        if isinstance(part, dict) and {"example", "examples"} & part.keys():
            yield part
        for child in children:
            if isinstance(child, dict | list):
                yield from schemas(child)

    found = list(schemas(DOCUMENT["components"]["schemas"]))
    assert found
    for schema in found:
        whole = {**schema, "components": DOCUMENT["components"]}
        valid = jsonschema_rs.validator_for(whole, validate_formats=True)
        for example in [*schema.get("examples", []), schema.get("example")]:
            if example is not None:
                valid.validate(example)


def test_operations_have_names_of_their_own() -> None:
    names = [each["operationId"] for each in OPERATIONS.values()]
    assert len(set(names)) == len(names)


def test_no_schema_is_unused() -> None:
    text = json.dumps(DOCUMENT)
    for name in DOCUMENT["components"]["schemas"]:
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
        "components": DOCUMENT["components"],
    }
    body = {"url": "https://example.com/hook", **time}
    assert jsonschema_rs.is_valid(schema, body) == is_valid
