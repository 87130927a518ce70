"""A list that Postgres does not make in time is no outage."""

import psycopg
import pytest

from apps.core import database
from apps.core.database import connection_arguments, list_pool
from tests.support.api import create, look, send
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("new_pool")


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
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "_LIST_SECONDS", 0.2)
    # Given a table that nobody may read
    with psycopg.connect(**connection_arguments()) as other:
        other.execute("LOCK TABLE timer IN ACCESS EXCLUSIVE MODE")
        assert_too_slow(caplog)

    # When it may be read again, Then it is
    eventually(lambda: look("/timers").status_code == 200)


def test_lists_wait_for_each_other_and_not_for_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "_LIST_PATIENCE", 0.2)
    with list_pool().connection(30), list_pool().connection(30):
        assert_too_slow(caplog)
        assert create(seconds=300).status_code == 201
    eventually(lambda: look("/timers").status_code == 200)
