"""Completes the API's document (OpenAPI), as Django Ninja makes it.

What is true of every operation is said here, once: the refusals that come
before an endpoint, and what each error means.
"""

import json
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder

from apps.accounts.access import needed_scope
from apps.timers.api.schemas import ErrorOut

_ERROR = f"#/components/schemas/{ErrorOut.__name__}"
_NULL = {"type": "null"}
_SCHEME = "apiKey"
_KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key: `tsk_<prefix>_<secret>`.",
}
#: What each error means, unless an operation has a description of its own.
_MEANINGS = {
    "400": "The body is not JSON, or the Host header is not allowed.",
    "401": "An API key is needed, or the one that was sent is not valid.",
    "403": "The API key has not the scope that is needed, or a web page of"
    " another site sent the request.",
    "404": "There is no such timer.",
    "408": "The body did not arrive whole, or took too long.",
    "409": "What the timer is now, or another timer, does not allow it.",
    "412": "The timer was changed since: no tag of If-Match is its ETag.",
    "413": "The body is too long.",
    "414": "The path and the query are too long.",
    "422": "Something is not valid; `errors` has each field, and the fix.",
    "429": "A limit of the account is used up. Try again after as many seconds"
    " as `Retry-After` says.",
    "503": "Postgres can't be used, or too many requests are under way. Try"
    " again after as many seconds as `Retry-After` says.",
}


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document as plain JSON, with what Ninja can't know."""
    found: dict[str, Any] = json.loads(
        json.dumps(document, cls=DjangoJSONEncoder)
    )
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            _complete(path, method, operation)
    components = found["components"]
    components["securitySchemes"] = {_SCHEME: _KEY}
    components["responses"] = {
        _name(status): _answer(meaning)
        for status, meaning in _MEANINGS.items()
    }
    _drop_unused(found, components["schemas"])
    return found


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    for parameter in operation["parameters"]:
        # They stand in the schema as well. Here they would need names.
        parameter.pop("examples", None)
        parameter["schema"] = _without_null(parameter["schema"])
    answers = operation["responses"]
    for status, answer in answers.items():
        if status in _MEANINGS and answer.get("content") == _content():
            answers[status] = _reference(status)
    for status in _common(path, method, operation):
        answers.setdefault(status, _reference(status))
    operation["responses"] = dict(sorted(answers.items()))
    if scope := needed_scope(method.upper(), path):
        operation["security"] = [{_SCHEME: [scope]}]
        if not settings.REQUIRE_API_KEY:
            operation["security"].append({})


def _common(
    path: str, method: str, operation: dict[str, Any]
) -> Iterator[str]:
    """Yield the errors that are answered before the endpoint is called."""
    yield from ("400", "414", "422")
    if path != "/livez":  # which is answered also when all others wait
        yield "503"
    if needed_scope(method.upper(), path):
        yield from ("401", "403")
    if "requestBody" in operation:
        yield from ("408", "413")


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter: it has a value, or is left out."""
    choices = schema.get("anyOf", [])
    if _NULL not in choices:
        return schema
    others = [each for each in choices if each != _NULL]
    rest = {name: schema[name] for name in schema if name != "anyOf"}
    return rest | (others[0] if len(others) == 1 else {"anyOf": others})


def _drop_unused(document: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Drop the schemas of queries: their parameters stand by themselves."""
    used = json.dumps(document)
    for name in list(schemas):
        if f'"#/components/schemas/{name}"' not in used:
            del schemas[name]


def _content() -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _ERROR}}}


def _answer(meaning: str) -> dict[str, Any]:
    return {"description": meaning, "content": _content()}


def _name(status: str) -> str:
    return f"Error{status}"


def _reference(status: str) -> dict[str, Any]:
    return {"$ref": f"#/components/responses/{_name(status)}"}
