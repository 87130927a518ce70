"""Keys, labels, Idempotency-Key and PUT by key."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from django.test import Client
from pytest_django import Settings

from apps.timers.models import Outcome, Timer
from apps.timers.storage import recording
from tests.support.api import GOOD, create, look, post, refused, send
from tests.support.rows import change, claimed, given_up, report, row
from tests.support.timers import value_of


@pytest.fixture(autouse=True)
def standalone(db_pool: None, settings: Settings) -> None:
    """Leave the timers in Postgres."""
    settings.RABBITMQ_URL = ""


def put(key: str, **fields: Any) -> Any:
    return Client(raise_request_exception=False).put(
        f"/timer/by-key/{quote(key, safe='')}",
        json.dumps({**GOOD, **fields}),
        content_type="application/json",
    )


def labels_of(timer_id: str) -> dict[str, str]:
    """Return the labels by which a timer is found."""
    found: Any = value_of(
        "SELECT jsonb_object_agg(name, value) FROM timer_label"
        " JOIN timer ON timer.id = timer_id"
        " WHERE timer_id = %s AND timer_label.due_at = timer.due_at",
        timer_id,
    )
    return json.loads(found) if found else {}


# -- Keys -------------------------------------------------------------------


def test_a_key_belongs_to_one_timer_that_has_not_ended() -> None:
    # Given a timer with a key
    first = create(key="order 17/é")
    assert first.status_code == 201
    found = look(f"/timer/{first.json()['id']}").json()
    assert found["key"] == "order 17/é"

    # When another one is to have it, Then the answer says which has it
    second = create(key="order 17/é")
    assert second.status_code == 409
    assert second.json()["id"] == first.json()["id"]
    assert Timer.objects.count() == 1

    # When the first has ended, Then the key is free
    recording.record([report(claimed(due(first.json()["id"])))])
    third = create(key="order 17/é")
    assert third.status_code == 201
    found = look("/timer/by-key/order 17%2F%C3%A9").json()
    assert found["id"] == third.json()["id"]


def due(timer_id: str) -> UUID:
    """Let a timer be due now."""
    change(UUID(timer_id), "due_at = now(), next_at = now()")
    return UUID(timer_id)


@pytest.mark.parametrize(
    ("key", "is_good"),
    [("x" * 255, True), ("a/b?c#d", True), ("ключ", True), ("*", True),
     ("x" * 256, False), ("", False), ("a\nb", False), ("\0", False),
     ("\x85", False), ("\ud800", False), (5, False)],
    ids=ascii,
)
def test_which_keys_there_are(key: Any, is_good: bool) -> None:
    answer = create(key=key)
    if is_good:
        assert answer.status_code == 201
        path = f"/timer/by-key/{quote(key, safe='')}"
        assert look(path).json()["id"] == answer.json()["id"]
    else:
        assert refused(answer) == {"key"}


@pytest.mark.parametrize(
    "key", ["x" * 256, "", "a\nb", "\n", "a\0", "\x85"], ids=ascii
)
def test_an_address_with_a_key_that_there_is_not_is_refused(key: str) -> None:
    path = f"/timer/by-key/{quote(key, safe='')}"
    assert refused(put(key)) == {"key"}
    assert refused(look(path)) == {"key"}
    assert refused(Client().delete(path)) == {"key"}


def test_a_timer_is_replayed_only_while_its_key_is_free() -> None:
    # Given a timer that gave up, and another one that has its key
    lost = given_up().id
    change(lost, "key = 'k'")
    other = create(key="k").json()["id"]

    # Then it is not replayed
    assert send(f"/timer/{lost}/replay").status_code == 409
    assert send("/timers/replay", {"ids": [str(lost)]}).json()[
        "not_replayed"
    ] == [str(lost)]

    # When the other one has ended, Then it is, and it has its key again
    assert Client().delete(f"/timer/{other}").status_code == 204
    assert send(f"/timer/{lost}/replay").status_code == 202
    assert look("/timer/by-key/k").json()["id"] == str(lost)


def test_of_two_timers_with_one_key_one_is_replayed() -> None:
    # Given two timers that had a key one after the other, and gave up
    ids = []
    for _ in range(2):
        ids.append(create(key="k").json()["id"])
        claim = claimed(due(ids[-1]))
        recording.record([report(claim, Outcome.FAILED)])

    # When both are replayed, Then the later one is, and it has the key
    answer = send("/timers/replay", {"ids": ids}).json()
    assert answer["replayed"] == 1
    assert answer["not_replayed"] == ids[:1]
    assert look("/timer/by-key/k").json()["id"] == ids[1]


# -- Labels -----------------------------------------------------------------


def test_labels_are_kept_and_found() -> None:
    labels = {"user": "17", "a.b_c-9": "", "kind": "é" * 255}
    timer_id = create(labels=labels).json()["id"]
    assert look(f"/timer/{timer_id}").json()["labels"] == labels
    assert labels_of(timer_id) == labels


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ({str(n): "" for n in range(17)}, "labels"),
        ({"User": "1"}, "labels"),
        ({"": "1"}, "labels"),
        ({"x" * 65: "1"}, "labels"),
        ({"user": 17}, "labels.user"),
        ({"user": None}, "labels.user"),
        ({"user": "x" * 256}, "labels.user"),
        ({"user": "\0"}, "labels.user"),
        ([], "labels"),
        ("a:b", "labels"),
    ],
    ids=ascii,
)
def test_labels_that_are_none_are_refused(labels: Any, field: str) -> None:
    assert refused(create(labels=labels)) == {field}


# -- Idempotency-Key --------------------------------------------------------


def test_a_repeated_request_gets_the_first_answer() -> None:
    body = json.dumps({**GOOD, "key": "k"})
    first = post(body, **{"Idempotency-Key": "abc"})
    assert first.status_code == 201
    again = post(body, **{"Idempotency-Key": "abc"})
    assert (again.status_code, again.json()) == (200, first.json())
    assert again["Location"] == first["Location"]
    assert Timer.objects.count() == 1

    # Another body is another request
    other = post(json.dumps(GOOD), **{"Idempotency-Key": "abc"})
    assert other.status_code == 422
    assert other.json()["errors"][0]["field"] == "Idempotency-Key"


def test_a_refused_request_may_be_repeated() -> None:
    # Given a request that is refused, since its timer's key is taken
    other = create(key="k").json()["id"]
    body = json.dumps({**GOOD, "key": "k"})
    assert post(body, **{"Idempotency-Key": "abc"}).status_code == 409

    # When the key is free, Then the same request sets a timer
    assert Client().delete(f"/timer/{other}").status_code == 204
    answer = post(body, **{"Idempotency-Key": "abc"})
    assert answer.status_code == 201
    assert look(f"/timer/{answer.json()['id']}").status_code == 200


def test_a_requests_key_is_forgotten_after_a_day() -> None:
    body = json.dumps(GOOD)
    first = post(body, **{"Idempotency-Key": "abc"}).json()["id"]
    value_of(
        "UPDATE request_key SET created_at = created_at - interval '25 h'"
        " RETURNING 1"
    )
    second = post(body, **{"Idempotency-Key": "abc"})
    assert second.status_code == 201
    assert second.json()["id"] != first


def test_a_forgotten_request_is_refused_if_its_timers_key_is_taken() -> None:
    # Given a request of yesterday, and another timer that has the key by now
    body = json.dumps({**GOOD, "key": "k"})
    first = post(body, **{"Idempotency-Key": "abc"}).json()["id"]
    assert Client().delete(f"/timer/{first}").status_code == 204
    other = create(key="k").json()["id"]
    value_of(
        "UPDATE request_key SET created_at = created_at - interval '25 h'"
        " RETURNING 1"
    )

    # When it is repeated, Then it is a new one, for which the key is not free
    answer = post(body, **{"Idempotency-Key": "abc"})
    assert (answer.status_code, answer.json().get("id")) == (409, other)


@pytest.mark.parametrize("key", ["", "x" * 256, "é", " x", "a\tb"])
def test_which_request_keys_there_are(key: str) -> None:
    answer = post(json.dumps(GOOD), **{"Idempotency-Key": key})
    assert refused(answer) == {"Idempotency-Key"}


def test_of_two_requests_at_a_time_one_creates() -> None:
    # Given 40 pairs of requests, each pair with a key of its own
    body = json.dumps({**GOOD, "labels": {"a": "b"}})

    def ask(number: int) -> Any:
        return post(body, **{"Idempotency-Key": f"pair {number // 2}"})

    # When they come at the same time
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(80)))

    # Then of each pair one creates, and both have one answer
    assert Timer.objects.count() == 40
    for one, other in zip(answers[::2], answers[1::2], strict=True):
        assert {one.status_code, other.status_code} == {200, 201}
        assert one.json() == other.json()


# -- PUT --------------------------------------------------------------------


def test_put_sets_a_timer_and_then_changes_it() -> None:
    # When a key has no timer
    first = put("k", labels={"a": "1", "b": "2"}, headers={"x-a": "1"})
    assert first.status_code == 201
    assert first["Location"] == f"/timer/{first.json()['id']}"
    assert first["ETag"] == '"1"'

    # When it has one
    again = put("k", seconds=50, labels={"b": "2", "c": "3"}, method="PUT")

    # Then all that is given takes the place of what was
    assert again.status_code == 200
    assert again["ETag"] == '"2"'
    found = again.json()
    assert found["id"] == first.json()["id"]
    assert (found["method"], found["time_left"]) == ("PUT", 50)
    assert found["labels"] == {"b": "2", "c": "3"} == labels_of(found["id"])
    assert row(UUID(found["id"]))["headers"] is None


def test_put_may_keep_what_there_is() -> None:
    first = put("k", seconds=50).json()
    again = put("k", seconds=5, if_exists="keep")
    assert (again.status_code, again["ETag"]) == (200, '"1"')
    assert again.json()["fire_at"] == first["fire_at"]


def test_put_may_extend_up_to_a_moment() -> None:
    # Given a timer that may be moved by 100 s at most
    latest = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=100)
    first = put("k", seconds=50, if_exists="extend",
                latest_at=latest.isoformat())
    assert first.status_code == 201

    # When it is extended
    again = put("k", seconds=90, if_exists="extend", method="GET")
    assert again.status_code == 200
    assert again.json()["time_left"] == 90

    # Then only its time moves, and not beyond that
    assert again.json()["method"] == "POST"
    again = put("k", seconds=300, if_exists="extend",
                latest_at="2099-01-01T00:00:00Z")
    fire_at = datetime.fromisoformat(again.json()["fire_at"])
    assert fire_at == latest


def test_a_new_timer_takes_the_key_of_one_that_is_being_called() -> None:
    # Given a timer with a key, which is being called
    first = put("k").json()["id"]
    claim = claimed(due(first))

    # When the key is put again
    again = put("k")

    # Then another timer has it, and the first one runs to its end
    assert again.status_code == 201
    assert again.json()["id"] != first
    assert recording.record([report(claim)]) == [True]
    assert look("/timer/by-key/k").json()["id"] == again.json()["id"]


def test_many_puts_of_a_key_make_one_timer() -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(
            lambda number: put("k", seconds=100 + number), range(100)
        ))
    assert len({answer.json()["id"] for answer in answers}) == 1
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] * 99 + [201]
    versions = sorted(int(answer["ETag"].strip('"')) for answer in answers)
    assert versions == list(range(1, 101))
    last = max(answers, key=lambda answer: int(answer["ETag"].strip('"')))
    found = look("/timer/by-key/k").json()
    assert found["fire_at"] == last.json()["fire_at"]


def test_a_key_without_a_timer_is_404() -> None:
    client = Client()
    for method in (client.get, client.delete):
        assert method("/timer/by-key/none").status_code == 404
    answer = client.patch("/timer/by-key/none", "{}",
                          content_type="application/json")
    assert answer.status_code == 404


def test_a_timer_is_changed_and_cancelled_by_its_key() -> None:
    put("k")
    client = Client()
    answer = client.patch("/timer/by-key/k", '{"method": "PUT"}',
                          content_type="application/json")
    assert answer.json()["method"] == "PUT"
    assert client.delete("/timer/by-key/k").status_code == 204
    assert client.delete("/timer/by-key/k").status_code == 404


def test_who_stores_many_at_a_time_stores_each_key_once() -> None:
    keys = [f"key {number % 20}" for number in range(100)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda key: create(key=key), keys))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [201] * 20 + [409] * 80
    assert Timer.objects.count() == 20
