"""PATCH /timer/{id}, its ETag, and POST /timer/{id}/fire."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client
from pytest_django import Settings

from tests.support.api import create, look
from tests.support.rows import change, row
from tests.support.timers import value_of


@pytest.fixture(autouse=True)
def standalone(db_pool: None, settings: Settings) -> None:
    """Leave the timers in Postgres."""
    settings.RABBITMQ_URL = ""


def patch(timer_id: object, body: object, **headers: str) -> Any:
    client = Client(raise_request_exception=False)
    return client.patch(
        f"/timer/{timer_id}", json.dumps(body),
        content_type="application/json", headers=headers,
    )


def fire(timer_id: object, **headers: str) -> Any:
    client = Client(raise_request_exception=False)
    return client.post(f"/timer/{timer_id}/fire", headers=headers)


@pytest.fixture
def timer_id() -> UUID:
    """Return a timer that waits, with all that can be asked for."""
    answer = create(
        seconds=1000, method="PUT", headers={"x-a": "1"}, body={"n": 1.50},
        delivery="at_least_once", retry={"max_attempts": 5},
        max_lateness=60, labels={"a": "1"}, key="k",
    )
    return UUID(answer.json()["id"])


LATER = (datetime.now(UTC) + timedelta(days=99)).strftime("%Y-%m-%dT00:00:00Z")
CHANGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"hours": 0, "minutes": 1, "seconds": 0}, {"time_left": 60}),
    ({"fire_at": LATER},
     {"fire_at": LATER}),
    ({"url": "https://other.example.com/"},
     {"url": "https://other.example.com/"}),
    ({"method": "POST"}, {"method": "POST"}),
    ({"method": None}, {"method": "POST"}),
    ({"method": "GET", "body": None}, {"method": "GET"}),
    ({"max_lateness": None}, {"max_lateness": None}),
    ({"max_lateness": 5}, {"max_lateness": 5}),
    ({"labels": None}, {"labels": None}),
    ({"labels": {"b": "2"}}, {"labels": {"b": "2"}}),
    ({"retry": None, "delivery": "once"},
     {"retry": None, "delivery": "once"}),
    ({}, {}),
]


@pytest.mark.parametrize(("body", "found"), CHANGES, ids=ascii)
def test_what_is_given_changes_and_the_rest_stays(
    timer_id: UUID, body: dict[str, Any], found: dict[str, Any]
) -> None:
    before = look(f"/timer/{timer_id}").json()
    answer = patch(timer_id, body)
    assert (answer.status_code, answer["ETag"]) == (200, '"2"')
    after = answer.json()
    if "time_left" in found or "fire_at" in found:
        for name in ("fire_at", "next_at", "time_left"):
            before.pop(name), found.get(name) or after.pop(name)
    assert after == {**before, **found}
    event = "changed" if body.keys() - {
        "hours", "minutes", "seconds", "fire_at"
    } else "moved"
    kept = value_of("SELECT array_agg(what) FROM event WHERE timer_id = %s",
                    timer_id)
    assert kept == [event]


def test_a_body_is_kept_and_encoded_as_its_headers_say(
    timer_id: UUID
) -> None:
    assert bytes(row(timer_id)["body"]) == b'{"n":1.5}'
    patch(timer_id, {"headers": {"x-b": "2"}})
    found = row(timer_id)
    assert bytes(found["body"]) == b'{"n":1.5}'
    assert found["headers"] == {"x-b": "2"}
    patch(timer_id, {"headers": {"content-type": "text/csv"}, "body": "a,b"})
    assert bytes(row(timer_id)["body"]) == b"a,b"
    patch(timer_id, {"method": "POST"})
    assert bytes(row(timer_id)["body"]) == b"a,b"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"method": "GET"}, "body"),
        ({"headers": {"content-type": "text/csv"}}, "body"),
        ({"delivery": "once"}, "retry.on"),
        ({"url": None}, "url"),
        ({"url": "ftp://x/"}, "url"),
        ({"hours": 1}, "minutes"),
        ({"window": 5}, "hours"),
        ({"seconds": "5"}, "seconds"),
        ({"key": "other"}, "key"),
        ({"headers": {"host": "x"}}, "headers.host"),
        ({"fire_at": "2020-01-01T00:00:00Z"}, "fire_at"),
    ],
    ids=ascii,
)
def test_what_does_not_fit_is_refused(
    timer_id: UUID, body: dict[str, Any], field: str
) -> None:
    before = row(timer_id)
    answer = patch(timer_id, body)
    assert answer.status_code == 422, answer.content
    fields = [error["field"] for error in answer.json()["errors"]]
    assert field in fields
    assert row(timer_id) == before


@pytest.mark.parametrize(
    ("state", "status", "why"),
    [
        ("fired_at = now()", 409, "is being called"),
        ("outcome = 'delivered'", 409, "has ended: it is delivered"),
        ("outcome = 'cancelled'", 409, "has ended: it is cancelled"),
        ("sent_at = now()", 409, "may have been received"),
        ("sent_at = now(), retries = 1", 200, ""),
        ("attempts = 1, connect_failures = 1", 200, ""),
        ("deferred = true", 200, ""),
    ],
)
def test_only_a_timer_that_waits_is_changed(
    timer_id: UUID, state: str, status: int, why: str
) -> None:
    change(timer_id, state)
    for answer in (patch(timer_id, {"labels": None}), fire(timer_id)):
        assert answer.status_code == (202 if answer.wsgi_request.path.endswith(
            "/fire") and status == 200 else status)
        assert why in answer.json().get("detail", "")


def test_there_is_nothing_to_change_of_no_timer() -> None:
    for answer in (patch(uuid4(), {}), fire(uuid4()),
                   patch(uuid4(), {"labels": None})):
        assert answer.status_code == 404


@pytest.mark.parametrize(
    ("if_match", "is_met"),
    [("*", True), ('"1"', True), ('"7", "1"', True), ('"2"', False),
     ('W/"1"', False), ("1", False), ('"x"', False)],
)
def test_a_change_may_ask_for_a_version(
    timer_id: UUID, if_match: str, is_met: bool
) -> None:
    statuses = [
        patch(timer_id, body, **{"If-Match": if_match}).status_code
        for body in ({"labels": None}, {"fire_at": LATER})
    ]
    if is_met:  # the second change meets another version, unless any will do
        assert statuses == [200, 200 if if_match == "*" else 412]
    else:
        assert statuses == [412, 412]
        assert fire(timer_id, **{"If-Match": if_match}).status_code == 412
        answer = Client().delete(
            f"/timer/{timer_id}", headers={"If-Match": if_match}
        )
        assert answer.status_code == 412
        assert look(f"/timer/{timer_id}")["ETag"] == '"1"'


def test_of_changes_at_the_same_time_none_is_lost(timer_id: UUID) -> None:
    # Given changes of different fields at the same time
    bodies: list[dict[str, Any]] = [
        {"max_lateness": 7}, {"labels": {"z": "1"}}, {"method": "PATCH"},
        {"fire_at": LATER},
    ]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda body: patch(timer_id, body), bodies))

    # Then all of them are made
    assert [answer.status_code for answer in answers] == [200] * 4
    found = look(f"/timer/{timer_id}")
    assert found["ETag"] == '"5"'
    assert found.json()["max_lateness"] == 7
    assert found.json()["labels"] == {"z": "1"}
    assert found.json()["method"] == "PATCH"
    assert found.json()["fire_at"] == LATER


def test_a_row_that_cannot_be_read_is_a_conflict(timer_id: UUID) -> None:
    change(timer_id, "retry = '[1]'")
    answer = patch(timer_id, {"labels": None})
    assert answer.status_code == 409
    assert "row" in answer.json()["detail"]


def test_a_timer_that_fires_now_is_due_now(timer_id: UUID) -> None:
    answer = fire(timer_id)
    assert (answer.status_code, answer["ETag"]) == (202, '"2"')
    assert answer.json()["time_left"] == 0
    found = row(timer_id)
    assert found["next_at"] == found["due_at"]
