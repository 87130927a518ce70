"""What is said to a list or a replay that makes no sense, or can't be."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from apps.timers.storage import finding, looking, replaying
from tests.support.api import look, names, send
from tests.support.rows import given_up, row

pytestmark = pytest.mark.usefixtures("db_pool")

MOMENT = "2026-03-01T12:00:00"
NOBODY = str(uuid4())
QUERIES: list[tuple[dict[str, object], str, str]] = [
    ({"status": "gone"}, "status.0", "'unknown'"),
    ({"status": ""}, "status.0", "'unknown'"),
    ({"host": ""}, "host", "real host"),
    ({"host": "example.com/x"}, "host", "host:port"),
    ({"host": "http://example.com"}, "host", "host:port"),
    ({"host": "me@example.com"}, "host", "user name"),
    ({"host": "::1"}, "host", "real host"),
    ({"host": "a b"}, "host", "U+0020"),
    ({"host": "example.com:0"}, "host", "port"),
    ({"host": "example.com:"}, "host", "port"),
    ({"from": "2026-03-01"}, "from", "offset"),
    ({"from": MOMENT}, "from", "offset"),
    ({"to": f"{MOMENT} 01:00"}, "to", "%2B"),
    ({"to": "1700000000"}, "to", "ISO 8601"),
    ({"limit": 0}, "limit", "1"),
    ({"limit": 1001}, "limit", "1000"),
    ({"limit": "all"}, "limit", "integer"),
    ({"after": 5}, "after", "UUID"),
    ({"after": NOBODY}, "after", "`next`"),
]
BODIES: list[tuple[object, str, str]] = [
    ({}, "body", "at least one of host, from and to"),
    ({"status": ["failed"], "limit": 5}, "body", "at least one of"),
    ({"host": None}, "body", "at least one of"),
    ({"after": NOBODY}, "body", "at least one of"),
    ({"ids": [NOBODY], "host": "a.example"}, "body", "one of them"),
    ({"ids": [NOBODY], "limit": 1}, "body", "one of them"),
    ({"ids": []}, "ids", "at least 1"),
    ({"ids": [NOBODY] * 1001}, "ids", "at most 1000"),
    ({"ids": [NOBODY, "5"]}, "ids.1", "UUID"),
    ({"host": "a.example", "hots": 1}, "hots", "host, from, to, ids, status"),
    ({"host": 5.5}, "host", "string"),
    ({"from": 1700000000}, "from", "ISO 8601"),
    ({"host": "a.example", "status": []}, "status", "at least 1"),
    ({"host": "a.example", "status": "failed"}, "status", "a list"),
    ({"host": "a.example", "limit": 10_001}, "limit", "1 to 10,000"),
    ({"host": "a.example", "limit": 5.0}, "limit", "whole number"),
    ({"host": "\ud800"}, "host", "U+D800"),
    ({"host": "a.example", "after": NOBODY}, "after", "`next`"),
    ([], "body", "host, from, to, ids, status"),
]


def test_a_query_that_means_nothing_is_refused() -> None:
    for query, field, words in QUERIES:
        names(look("/timers", **query), field, words)


def test_a_replay_of_nothing_or_of_everything_is_refused() -> None:
    # Given a timer that gave up
    timer_id = given_up().id
    for body, field, words in BODIES:
        # When what is to be replayed makes no sense, Then nothing is
        names(send("/timers/replay", body), field, words)
    empty = send("/timers/replay")
    assert empty.status_code == 400
    assert "ids" in empty.json()["detail"]
    assert row(timer_id)["outcome"] == "failed"


@pytest.mark.parametrize(
    ("timer_id", "code"), [(NOBODY, 404), ("5", 422), ("%00", 422)]
)
def test_an_id_that_is_unknown_or_none(timer_id: str, code: int) -> None:
    for answer in (
        look(f"/timer/{timer_id}/attempts"), send(f"/timer/{timer_id}/replay")
    ):
        assert answer.status_code == code
        if code == 404:
            assert timer_id in answer.json()["detail"]
        else:
            names(answer, "timer_uuid", "UUID")


REQUESTS: list[Callable[[], Any]] = [
    lambda: look("/timers"),
    lambda: look(f"/timer/{NOBODY}/attempts"),
    lambda: send(f"/timer/{NOBODY}/replay"),
    lambda: send("/timers/replay", {"ids": [NOBODY]}),
    lambda: send("/timers/replay", {"host": "a.example"}),
]


def test_without_postgres_each_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise psycopg.OperationalError("gone")

    for module, pool in (
        (looking, "pool"), (finding, "list_pool"), (replaying, "pool"),
    ):
        monkeypatch.setattr(module, pool, fail)
    for request in REQUESTS:
        answer = request()
        assert answer.status_code == 503
        assert answer["Retry-After"] == "1"
