"""A list that Postgres does not make in time is no outage."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from apps.timers import store
from apps.timers.database import Connection, connection_arguments
from tests.support.api import create, look, send

pytestmark = pytest.mark.usefixtures("db_pool")


@pytest.fixture
def hasty(
    db_pool: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ConnectionPool[Connection]]:
    """Let a list take 50 ms and no more, on one connection."""
    pool: ConnectionPool[Connection] = ConnectionPool(
        kwargs={
            **connection_arguments(),
            "autocommit": True,
            "options": "-c statement_timeout=50",
        },
        min_size=1,
        max_size=1,
        timeout=0.2,
        open=True,
    )
    with pool:
        monkeypatch.setattr(store, "pool", lambda: pool)
        yield pool


def assert_too_slow(log: pytest.LogCaptureFixture) -> None:
    for answer in (
        look("/timers"),
        look("/timers", host="a.example"),
        send("/timers/replay", {"host": "a.example"}),
    ):
        assert answer.status_code == 503
        assert answer["Retry-After"] == "1"
        assert "did not make the list in time" in answer.json()["detail"]
    assert "can't be reached" not in log.text


def test_a_list_that_takes_too_long_says_so(
    hasty: ConnectionPool[Connection], caplog: pytest.LogCaptureFixture
) -> None:
    # Given a table that nobody may read
    with psycopg.connect(**connection_arguments()) as other:
        other.execute("LOCK TABLE timer IN ACCESS EXCLUSIVE MODE")
        assert_too_slow(caplog)

    # When it may be read again, Then it is
    assert look("/timers").status_code == 200


def test_lists_wait_for_each_other_and_not_for_long(
    hasty: ConnectionPool[Connection],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with hasty.connection():
        assert_too_slow(caplog)
        monkeypatch.undo()
        assert create(seconds=300).status_code == 201
