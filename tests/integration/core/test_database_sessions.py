"""Sessions that end, that may not write, that wait, and that are crowded."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from django.test import Client
from pytest_django import Settings

from apps.core import database
from apps.core.database import connection_arguments, list_pool, pool
from apps.timers.storage import queueing
from tests.support import api
from tests.support.waiting import at_best

pytestmark = pytest.mark.usefixtures("new_pool")

#: What the answer of a request takes on a busy machine, in seconds.
AT_ONCE = 0.7


@pytest.fixture(autouse=True)
def standalone(settings: Settings) -> None:
    settings.RABBITMQ_URL = ""


def create() -> int:
    return int(api.create().status_code)


def fill(count: int) -> list[int]:
    """Have the pool open all of its connections; return their processes."""
    with ExitStack() as stack:
        taken = [
            stack.enter_context(pool().connection(30)) for _ in range(count)
        ]
        return [connection.info.backend_pid for connection in taken]


@contextmanager
def locked_table() -> Iterator[None]:
    """Keep everybody else from the timers, as an ALTER TABLE does."""
    with psycopg.connect(**connection_arguments()) as other:
        other.execute("LOCK TABLE timer IN ACCESS EXCLUSIVE MODE")
        yield


def test_sessions_that_the_server_ended_cost_nobody_anything() -> None:
    def taken() -> float:
        # Given a full pool, and a server that ends all sessions
        ended = fill(6)
        with psycopg.connect(**connection_arguments(), autocommit=True) as one:
            one.execute(
                "SELECT pg_terminate_backend(pid, 5000)"
                " FROM unnest(%s::int[]) AS pid",
                [ended],
            )

        # When requests come, Then they are served at once
        began = time.monotonic()
        assert [create() for _ in range(3)] == [201] * 3
        return time.monotonic() - began

    at_best(taken, under=AT_ONCE)


def test_a_session_that_may_not_write_is_closed_with_its_like() -> None:
    """Such as those at a primary that has been demoted."""
    with ExitStack() as stack:
        for _ in range(6):
            session = stack.enter_context(pool().connection(30))
            session.execute(
                "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"
            )
    answers = [create() for _ in range(4)]
    assert answers == [503, 201, 201, 201]


def test_no_request_waits_for_a_lock_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "_STATEMENT_SECONDS", 0.3)
    with locked_table():
        began = time.monotonic()
        assert create() == 503
        assert Client().get("/timers?limit=1").status_code == 503
        assert time.monotonic() - began < 4
    assert create() == 201


def test_the_limits_are_those_of_the_callers() -> None:
    for each, seconds in ((pool(), "5s"), (list_pool(), "2s")):
        with each.connection() as connection:
            found = connection.execute("SHOW statement_timeout").fetchone()
        assert found == (seconds,)


def test_what_counts_many_rows_has_no_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "_STATEMENT_SECONDS", 0.001)
    with database.connect() as connection:
        found = connection.execute("SHOW statement_timeout").fetchone()
    assert found == ("0",)
    assert queueing.count_near() == (0, 0)


def test_the_pool_finds_a_server_that_is_back_at_once() -> None:
    there = connection_arguments()

    def taken() -> float:
        # Given an outage that its callers have seen
        fill(6)
        with psycopg.connect(**there, autocommit=True) as other:
            used = pool()
            used.kwargs = {**there, "dbname": "no_such", "autocommit": True}
            other.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database()"
                " AND pid <> pg_backend_pid()"
            )
        assert create() == 503

        # When it is over, Then nobody waits for the pool's next try
        used.kwargs = {**there, "autocommit": True}
        began = time.monotonic()
        assert create() == 201
        return time.monotonic() - began

    at_best(taken, under=AT_ONCE)
