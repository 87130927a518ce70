"""Requests to the API within the process, and the shape of its errors."""

import json
from typing import Any
from urllib.parse import urlencode

from django.test import Client

from apps.timers.models import Timer

HOOK = "https://example.com/hook"
GOOD: dict[str, Any] = {"hours": 0, "minutes": 0, "seconds": 5, "url": HOOK}


def post(body: bytes | str, **headers: str) -> Any:
    """Post a body to /timer; an error of the server is an answer, too."""
    client = Client(raise_request_exception=False)
    return client.post(
        "/timer", body, content_type="application/json", headers=headers
    )


def look(path: str, *status: str, **query: object) -> Any:
    """Get a path, with a query in which `status` may stand repeatedly."""
    client = Client(raise_request_exception=False)
    given = [*query.items(), *(("status", value) for value in status)]
    return client.get(f"{path}?{urlencode(given)}")


def send(path: str, body: object = None) -> Any:
    """Post JSON, or nothing, to a path."""
    client = Client(raise_request_exception=False)
    data = "" if body is None else json.dumps(body)
    return client.post(path, data, content_type="application/json")


def create(**changes: Any) -> Any:
    """Post a good body with some fields changed or added."""
    return post(json.dumps({**GOOD, **changes}))


def refused(answer: Any) -> set[str]:
    """Return the fields that a 422 names, in the shape of every error."""
    assert answer.status_code == 422, answer.content
    assert answer["Content-Type"] == "application/json"
    error = answer.json()
    assert set(error) == {"detail", "errors"}
    for each in error["errors"]:
        assert set(each) == {"field", "message"}
        assert each["field"] in error["detail"]
    assert not Timer.objects.exists()
    return {each["field"] for each in error["errors"]}


def names(answer: Any, field: str, words: str) -> None:
    """Assert that a 422 names a field and what is wrong with it."""
    assert answer.status_code == 422, answer.content
    error = answer.json()
    assert error["detail"] == f"Not valid: {field}."
    assert [each["field"] for each in error["errors"]] == [field]
    assert words in error["errors"][0]["message"]
