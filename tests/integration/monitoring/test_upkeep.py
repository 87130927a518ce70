"""Whether Postgres can clean up, as /readyz tells it."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from django.test import Client

from apps.broker.memory import MemoryBroker
from apps.core.database import connection_arguments, pool
from apps.monitoring import upkeep
from apps.monitoring.upkeep import UPKEEP
from tests.support.timers import value_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("memory_broker")


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    UPKEEP.forget()
    yield
    UPKEEP.forget()


@pytest.fixture
def other() -> Iterator[psycopg.Connection]:
    """Return another session, which has a name."""
    with psycopg.connect(
        **connection_arguments(), application_name="report"
    ) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def other_database() -> Iterator[str]:
    """Make another database on the same server; return its name."""
    with connected("postgres") as admin:
        admin.autocommit = True
        name = f"{connection_arguments()['dbname']}_other"
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        yield name
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_OPEN_FOR", timedelta(0))


def connected(database: str) -> psycopg.Connection:
    return psycopg.connect(**{**connection_arguments(), "dbname": database})


def found_anew() -> list[str]:
    """Look again: what Postgres does by itself may be found for a moment."""
    UPKEEP.forget()
    return found()


def is_all(troubles: list[str], beginning: str) -> bool:
    """Tell whether one trouble is told, which begins so."""
    return [each.startswith(beginning) for each in troubles] == [True]


def found() -> list[str]:
    answer = Client().get("/readyz")
    assert answer.status_code == 200
    troubles = answer.json().get("troubles", [])
    assert answer.json()["status"] == ("degraded" if troubles else "ok")
    return list(troubles)


HOLDING = {
    "a snapshot": [
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SELECT FROM timer",
    ],
    "a write": ["INSERT INTO timer_key VALUES ('k', gen_random_uuid())"],
}


@pytest.mark.parametrize("statements", HOLDING.values(), ids=HOLDING)
def test_an_old_transaction_is_told(
    other: psycopg.Connection, statements: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a transaction that is in the way of cleaning up
    for statement in statements:
        other.execute(statement)
    assert found() == []

    # When it is old enough, Then whose it is is told
    monkeypatch.setattr(upkeep, "_OPEN_FOR", timedelta(0))
    pid = other.info.backend_pid
    expected = f"process {pid} (report) has had a transaction for 0 min: "
    eventually(lambda: is_all(found_anew(), expected))

    # And when it is over, that is known 15 s later
    told = found()
    other.rollback()
    assert found() == told
    eventually(lambda: found_anew() == [])


@pytest.mark.usefixtures("impatient")
def test_a_transaction_that_holds_nothing_is_no_trouble(
    other: psycopg.Connection,
) -> None:
    other.execute("SELECT FROM timer")  # its snapshot ends with it
    eventually(lambda: found_anew() == [])


@pytest.mark.usefixtures("impatient")
def test_a_session_that_begins_in_another_database_is_no_trouble(
    other_database: str,
) -> None:
    # Given a session that can't begin, since its database is renamed
    with ThreadPoolExecutor(1) as threads, connected("postgres") as locker:
        locker.execute(
            f'ALTER DATABASE "{other_database}" RENAME TO "{other_database}2"'
        )
        begun = threads.submit(lambda: connected(other_database).close())
        eventually(lambda: value_of(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND objid ="
            " (SELECT oid FROM pg_database WHERE datname = %s)",
            other_database,
        ))

        # When Postgres is looked at, Then it is not told
        eventually(lambda: found_anew() == [])
        assert not begun.done()
        locker.rollback()
        begun.result(10)


def test_without_rights_an_old_snapshot_is_told_by_its_age(
    other: psycopg.Connection, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upkeep, "_BEHIND", 0)
    other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    other.execute("SELECT FROM timer")
    pid = other.info.backend_pid
    expected = f"process {pid} (report) has had a transaction for long: "
    eventually(lambda: is_all(found_without_rights(), expected))


def found_without_rights() -> list[str]:
    """Look as a role that may not see since when a transaction is open."""
    role = f"nobody_{uuid.uuid4().hex}"
    with pool().connection() as connection:
        with connection.transaction(force_rollback=True):
            connection.execute(f"CREATE ROLE {role}")
            connection.execute(f"SET LOCAL ROLE {role}")
            return upkeep._look(connection)


def test_that_numbers_run_out_is_told(
    monkeypatch: pytest.MonkeyPatch, memory_broker: MemoryBroker
) -> None:
    assert found() == []
    UPKEEP.forget()
    monkeypatch.setattr(upkeep, "_OLDEST", 1)
    (trouble,) = found()
    assert trouble.startswith("the database's oldest row is ")
    assert trouble.endswith("Postgres takes no more writes: run VACUUM FREEZE")
