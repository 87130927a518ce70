"""Whether Postgres can clean up, as /readyz tells it."""

import uuid
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from django.test import Client

from apps.broker.memory import MemoryBroker
from apps.core.database import connection_arguments, pool
from apps.monitoring import upkeep
from apps.monitoring.upkeep import UPKEEP

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
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_OPEN_FOR", timedelta(0))


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
    UPKEEP.forget()
    monkeypatch.setattr(upkeep, "_OPEN_FOR", timedelta(0))
    (trouble,) = found()
    pid = other.info.backend_pid
    assert trouble.startswith(
        f"process {pid} (report) has had a transaction for 0 min: "
    )

    # And when it is over, that is known 15 s later
    other.rollback()
    assert found() == [trouble]
    UPKEEP.forget()
    assert found() == []


@pytest.mark.usefixtures("impatient")
def test_a_transaction_that_holds_nothing_is_no_trouble(
    other: psycopg.Connection,
) -> None:
    other.execute("SELECT FROM timer")  # its snapshot ends with it
    assert found() == []


def test_without_rights_an_old_snapshot_is_told_by_its_age(
    other: psycopg.Connection, monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a role that may not see since when others have a transaction
    monkeypatch.setattr(upkeep, "_BEHIND", 0)
    other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    other.execute("SELECT FROM timer")
    role = f"nobody_{uuid.uuid4().hex}"
    with pool().connection() as connection:
        with connection.transaction(force_rollback=True):
            connection.execute(f"CREATE ROLE {role}")
            connection.execute(f"SET LOCAL ROLE {role}")

            # When it looks, Then it says whose snapshot that is all the same
            (trouble,) = upkeep._look(connection)
    pid = other.info.backend_pid
    assert trouble.startswith(
        f"process {pid} (report) has had a transaction for long: "
    )


def test_that_numbers_run_out_is_told(
    monkeypatch: pytest.MonkeyPatch, memory_broker: MemoryBroker
) -> None:
    assert found() == []
    UPKEEP.forget()
    monkeypatch.setattr(upkeep, "_OLDEST", 1)
    (trouble,) = found()
    assert trouble.startswith("the database's oldest row is ")
    assert trouble.endswith("Postgres takes no more writes: run VACUUM FREEZE")
