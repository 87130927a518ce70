"""What /metrics says is what the rows say."""

import time
from collections import Counter
from collections.abc import Callable

import psutil  # type: ignore[import-untyped]
import pytest
from django.test import Client

from apps.broker.rabbitmq import LadderBroker
from apps.core.database import connect
from apps.monitoring.metrics import exposition, stored
from apps.timers.scheduling import publishing
from apps.timers.storage.records import DueMessage
from tests.support.metrics import answered, parsed
from tests.support.ports import free_port
from tests.support.postgres_switch import PostgresSwitch
from tests.support.processes import listening
from tests.support.rabbitmq import Management
from tests.support.receiver import Receiver
from tests.support.rows import fill, new_timers
from tests.support.service import Process, Service
from tests.support.timers import value_of
from tests.support.waiting import eventually


@pytest.fixture
def fresh(db_pool: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Postgres be asked each time, also if another test has just asked."""
    exposition.all_numbers.forget()
    monkeypatch.setattr(stored, "KEPT", 0.0)
    monkeypatch.setattr(stored, "_REST", 0)


def told() -> Counter[str]:
    answer = Client().get("/metrics", headers={"host": "10.1.2.3:8000"})
    assert answer.status_code == 200
    return parsed(answer.content.decode())


@pytest.mark.usefixtures("fresh")
def test_postgress_numbers() -> None:
    # Given timers of each kind
    new_timers(4, 3600)
    new_timers(3, 30)
    new_timers(2, 30, queued=True)
    new_timers(1, -100)
    new_timers(5, -5, queued=True)
    fill(7, "due_at = now(); next_at = now() - interval '1 h';"
            " outcome = 'failed'")

    found = told()

    # Then they are counted
    assert found["timers_sleeping"] == 4
    assert found["timers_near"] == 5
    assert found["timers_overdue"] == 6
    assert 100 <= found["timers_oldest_overdue_seconds"] < 130
    assert found["timers_postgres_answers"] == 1


@pytest.mark.usefixtures("fresh")
def test_without_timers_there_is_nothing_overdue() -> None:
    found = told()

    assert found["timers_overdue"] == 0
    assert found["timers_oldest_overdue_seconds"] == 0


@pytest.mark.usefixtures("fresh")
def test_beyond_a_bound_those_that_sleep_are_estimated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given more timers than are counted, in a table of which nothing is known
    monkeypatch.setattr(stored, "MOST", 10)
    with connect() as connection:
        connection.execute("TRUNCATE timer")
    fill(3000, "due_at = now(); next_at = now() + interval '1 h'")
    new_timers(20, -5)

    # When nothing is known of the index, Then the bound is told
    assert told()["timers_sleeping"] == 10

    # When Postgres knows its index, Then an estimate is told
    with connect() as connection:
        connection.execute("ANALYZE timer")
    assert told()["timers_sleeping"] == pytest.approx(3000, rel=0.1)
    assert told()["timers_overdue"] == 10


@pytest.mark.usefixtures("fresh")
def test_the_oldest_transaction() -> None:
    with connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT pg_sleep(0.05)")

        age = told()["timers_postgres_oldest_transaction_seconds"]

    assert 0.05 <= age < 30


@pytest.mark.usefixtures("fresh")
def test_the_oldest_row() -> None:
    with connect() as connection:
        found = connection.execute(
            "SELECT age(datfrozenxid) FROM pg_database"
            " WHERE datname = current_database()"
        ).fetchone()
    assert found is not None
    age = told()["timers_postgres_oldest_row_transactions"]
    assert found[0] <= age < found[0] + 1_000_000


@pytest.mark.usefixtures("fresh")
def test_without_postgres_the_other_numbers_are_told(
    postgres: PostgresSwitch,
) -> None:
    assert "timers_sleeping" in told()

    postgres.goes_away()
    found = told()

    assert found["timers_postgres_answers"] == 0
    assert "timers_sleeping" not in found
    assert "timers_created_total" in found


@pytest.mark.usefixtures("db_pool")
def test_postgres_is_not_asked_each_time() -> None:
    exposition.all_numbers.forget()
    before = told()["timers_sleeping"]

    new_timers(3, 3600)

    assert told()["timers_sleeping"] == before


def listened_on(process: Process) -> set[tuple[str, int]]:
    """Return the addresses that a process and its children listen on."""
    head = psutil.Process(process.pid)
    return {
        (address.ip, address.port)
        for one in (head, *head.children(recursive=True))
        for address in listening(one.pid)
    }


@pytest.mark.rabbitmq
def test_a_dispatcher_tells_of_its_passes(
    make_service: Callable[..., Service],
    shared_vhost: tuple[str, Management],
    receiver: Receiver,
) -> None:
    # Given a dispatcher, and timers that are overdue
    service = make_service(shared_vhost[0])
    port = free_port()
    new_timers(3, -10, url=receiver.url())
    dispatcher = service.start_dispatcher(METRICS_PORT=str(port))
    queued = "SELECT count(*) FROM timer WHERE queued_at IS NOT NULL"
    eventually(lambda: value_of(queued) == 3)

    # Then it says that it does its work
    eventually(lambda: answered(port)["timers_pool_connections timers"])
    found = answered(port)
    assert listened_on(dispatcher) == {("127.0.0.1", port)}
    assert found["timers_processes"] == 1
    assert found["timers_passes_total good"] >= 1
    age = time.time() - found["timers_last_good_pass_timestamp_seconds"]
    assert 0 <= age < 20

    # When it is stopped, Then nobody listens there
    assert dispatcher.stop() == 0
    assert answered(port) == Counter()


@pytest.mark.rabbitmq
def test_what_rabbitmq_does_not_take_is_counted(
    ladder: LadderBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = told()["timers_publish_failures_total"]
    failure = RuntimeError("not confirmed")
    monkeypatch.setattr(
        ladder, "enqueue_many", lambda messages: [None, failure]
    )

    sent = publishing.publish([
        DueMessage(timer, time.monotonic())
        for timer in new_timers(2, queued=True)
    ])

    assert sent == 1
    assert told()["timers_publish_failures_total"] == before + 1
