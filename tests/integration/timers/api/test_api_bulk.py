"""Many timers in one request: POST /timers."""

import json
from typing import Any

import pytest
from django.test import Client

from apps.timers.models import Label, Timer
from tests.support.api import GOOD, HOOK, create

pytestmark = pytest.mark.usefixtures("memory_broker")

LINES = "application/x-ndjson"


def send(body: str | bytes, content_type: str = LINES, **headers: str) -> Any:
    client = Client(raise_request_exception=False)
    return client.post(
        "/timers", body, content_type=content_type, headers=headers
    )


def as_lines(*items: Any) -> str:
    return "".join(f"{json.dumps(item)}\n" for item in items)


def results(answer: Any) -> list[Any]:
    """Return the results of an answer, which has its length."""
    assert answer.status_code == 200, answer.content
    text = b"".join(answer.streaming_content)
    assert answer["Content-Length"] == str(len(text))
    if answer["Content-Type"] == "application/json":
        found: list[Any] = json.loads(text)
        return found
    assert answer["Content-Type"] == LINES
    return [json.loads(line) for line in text.splitlines()]


def test_lines_are_stored_in_their_order() -> None:
    # Given more lines than are stored at a time, with empty ones in between
    items = [{**GOOD, "seconds": 60 + number} for number in range(1_201)]
    body = as_lines(*items).replace("\n", " \r\n\n")

    # When they are sent
    found = results(send(body))

    # Then each has its result, and its timer
    assert [each["time_left"] for each in found] == list(range(60, 1_261))
    stored = {str(timer.id): timer for timer in Timer.objects.all()}
    assert [each["id"] for each in found] == sorted(stored)
    assert all(
        (timer.due_at - timer.created_at).total_seconds()
        == found[number]["time_left"]
        for number, timer in enumerate(
            stored[each["id"]] for each in found
        )
    )


def test_an_array_is_answered_by_an_array() -> None:
    items = [GOOD, {**GOOD, "hours": -1}, GOOD]
    body = json.dumps(items, indent=2)

    first, second, third = results(send(body, "application/json"))

    assert first["time_left"] == third["time_left"] == 5
    assert second["errors"][0]["field"] == "hours"
    assert Timer.objects.count() == 2
    assert results(send(" [ ] ", "application/json")) == []


def test_an_item_may_have_what_one_timer_has() -> None:
    found = results(send(as_lines(
        {**GOOD, "key": "a", "labels": {"user": "17"}},
        {"url": HOOK, "fire_at": "2026-12-24T18:00:00",
         "timezone": "Europe/Berlin", "window": 60, "body": ["digits"]},
        {**GOOD, "labels": {"user": "18"}},
    ).replace('"digits"', "1.10")))  # fmt: skip

    with_key, at, labelled = (Timer.objects.get(id=x["id"]) for x in found)
    assert (with_key.key, with_key.labels) == ("a", {"user": "17"})
    assert bytes(at.body or b"") == b"[1.10]"
    assert labelled.labels == {"user": "18"}
    assert Label.objects.count() == 2


@pytest.mark.parametrize("line", [
    "{", "[]", "5", '"x"', "null", "\xff", '{"url": 1}', '{"a": 1, "a": 1}',
    '{"hours": NaN}', "[" * 100_000, "x" * 200_000, '"\ud83d"',
    r'{"\ud83d": 1}',
    json.dumps({**GOOD, "retry": {"max_attempts": 5, "extra": 1}}),
    json.dumps({**GOOD, "headers": {"host": "x"}}),
])  # fmt: skip
def test_a_bad_line_costs_itself_only(line: str) -> None:
    body = as_lines(GOOD).encode()
    bad = line.encode("utf-8", "surrogatepass")

    first, second, third = results(send(body + bad + b"\n" + body))

    assert first["time_left"] == third["time_left"] == 5
    assert second["errors"]
    assert all(each["message"] for each in second["errors"])
    assert Timer.objects.count() == 2


@pytest.mark.parametrize("change", [
    {"hours": -1}, {"url": "http://10.0.0.1/"}, {"x": 1}, {"retry": {}},
    {"retry": {"max_attempts": 5, "extra": 1}}, {"labels": {"A": "b"}},
    {"fire_at": "2020-01-01T00:00:00"}, {"url": None}, {"headers": 5},
])  # fmt: skip
def test_errors_are_those_of_one_timer(change: dict[str, Any]) -> None:
    (found,) = results(send(as_lines({**GOOD, **change})))

    assert found == {"errors": create(**change).json()["errors"]}


def test_a_taken_key_names_its_timer() -> None:
    # Given a timer with a key
    holder = create(key="mine").json()["id"]

    # When it is asked for again, and another one twice
    items = [{**GOOD, "key": key} for key in ("mine", "new", "new")]
    taken, new, again = results(send(as_lines(*items)))

    # Then each key has one timer
    assert (taken["errors"][0]["field"], taken["id"]) == ("key", holder)
    assert (again["errors"][0]["field"], again["id"]) == ("key", new["id"])
    assert Timer.objects.count() == 2


@pytest.mark.parametrize("body", [
    b"", b"{}", b"5", b"[", b"[1", b"[1,", b"[1,]", b"[1 2]", b"[] x",
    b'["\xff"]', b"[" * 100_000, b'["' + b"x" * 200_000 + b'"]', b"[1.]",
])  # fmt: skip
def test_what_is_no_array_stores_nothing(body: bytes) -> None:
    if body.startswith(b"[1"):
        body = body.replace(b"1", json.dumps(GOOD).encode(), 1)
    answer = send(body, "application/json")

    assert answer.status_code == 400
    assert "must be a JSON array" in answer.json()["detail"]
    assert not Timer.objects.exists()


def test_an_array_has_so_many_items_at_most() -> None:
    answer = send(json.dumps([{}] * 10_001), "application/json")

    assert answer.status_code == 413
    assert "10,000" in answer.json()["detail"]
    assert len(results(send(json.dumps([{}] * 10_000), "application/json")))


def test_a_repetition_has_the_same_results() -> None:
    # Given a request that was answered
    body = as_lines(GOOD, {}, {**GOOD, "key": "a"}, {**GOOD, "key": "a"})
    body += as_lines(*[GOOD] * 600)
    headers = {"idempotency-key": "night-7"}
    first = results(send(body, **headers))

    # When it is repeated
    again = results(send(body, **headers))

    # Then nothing is stored twice
    assert again == first
    assert Timer.objects.count() == 602


def test_another_body_is_refused() -> None:
    headers = {"idempotency-key": "night-7"}
    results(send(as_lines(GOOD), **headers))

    answer = send(as_lines({**GOOD, "seconds": 6}), **headers)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"
    assert Timer.objects.count() == 1


def test_a_wrong_idempotency_key_is_refused() -> None:
    answer = send(as_lines(GOOD), **{"idempotency-key": " "})

    assert answer.status_code == 422
    assert not Timer.objects.exists()


def test_a_long_answer_is_complete() -> None:
    """It is kept in a file, and sent in pieces."""
    body = as_lines(*[{"hours": -1, "zones": 7}] * 3_000)

    assert len(results(send(body))) == 3_000
