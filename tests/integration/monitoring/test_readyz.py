"""Readiness: what any web process says of the database and the others."""

import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.test import Client
from pytest_django import Settings

from apps.broker.memory import MemoryBroker
from apps.broker.rabbitmq import LadderBroker
from apps.core import database
from apps.core.database import pool
from apps.core.fitness import unfit
from apps.core.outages import RABBITMQ_AWAY, TROUBLES
from apps.monitoring import api, heartbeat, processes
from apps.monitoring.heartbeat import Sign
from apps.monitoring.processes import Notice, Notices
from apps.timers.scheduling import feeder
from apps.timers.scheduling.feeder import Feeder
from apps.timers.scheduling.wakeups import Wakeups
from apps.timers.storage import claiming, queueing, taking_over
from tests.support.ports import free_port
from tests.support.rabbitmq import Management
from tests.support.rows import new_timer
from tests.support.service import Service
from tests.support.waiting import eventually


def ready() -> tuple[int, dict[str, Any]]:
    answer = Client().get("/readyz")
    return answer.status_code, answer.json()


def troubles() -> list[str]:
    """Return what keeps the service from being quite well."""
    status, found = ready()
    assert status == 200
    is_well = "troubles" not in found and found["rabbitmq"] != "away"
    assert found["status"] == ("ok" if is_well else "degraded")
    return list(found.get("troubles", []))


def shift(seconds: int) -> None:
    """Let time pass for all processes."""
    with pool().connection() as connection:
        connection.execute(
            "UPDATE process SET seen_at = seen_at - %s * interval '1 s',"
            " good_at = good_at - %s * interval '1 s'",
            [seconds, seconds],
        )


def test_a_process_that_is_unwell_makes_the_service_degraded(
    memory_broker: MemoryBroker,
) -> None:
    # Given a worker that is well
    notice = Notice("worker")
    notice.write(Sign())
    assert troubles() == []

    # When it has some trouble, Then that is told at once
    notice.write(Sign(2.0, "taking over: Broken"))
    (found,) = troubles()
    assert found.endswith(": taking over: Broken")

    # When that is over, Then so it is told
    notice.write(Sign())
    assert troubles() == []

    # When it is not heard of any more, Then it is missed
    shift(20)
    assert troubles() == ["no worker was heard of for 20 s"]

    # But not if it went in good order
    notice.withdraw()
    assert troubles() == []


def test_a_process_writes_no_more_often_than_it_needs_to(
    memory_broker: MemoryBroker,
) -> None:
    notice = Notice("worker")
    for _ in range(3):
        notice.write(Sign())
        shift(20)
    assert troubles() == ["no worker was heard of for 60 s"]


def test_rows_of_long_ago_are_removed(memory_broker: MemoryBroker) -> None:
    Notice("worker").write(Sign())
    shift(2 * 86_400)
    Notice("worker").write(Sign())
    with pool().connection() as connection:
        assert len(connection.execute(processes._READ).fetchall()) == 1


def test_that_nobody_ever_ran_is_told_once_timers_are_overdue(
    memory_broker: MemoryBroker, settings: Settings
) -> None:
    assert troubles() == []
    new_timer(-10)
    assert troubles() == []
    new_timer(-40)
    assert troubles() == ["no worker runs, and timers are overdue by 40 s"]
    Notice("worker").write(Sign())
    assert troubles() == []


@pytest.mark.rabbitmq
def test_with_rabbitmq_there_are_dispatchers_and_workers(
    ladder: LadderBroker,
    use_rabbitmq: Callable[[str], LadderBroker],
) -> None:
    new_timer(-40, queued=True)
    late = "and timers are overdue by 40 s"
    assert troubles() == [f"no dispatcher runs, {late}",
                          f"no worker runs, {late}"]
    Notice("worker").write(Sign())
    dispatcher = Notice("dispatcher")
    dispatcher.write(Sign(20.0, RABBITMQ_AWAY))
    (found,) = troubles()
    assert found.endswith("last worked well 20 s ago: " + RABBITMQ_AWAY)

    # A trouble that was reported is not reported twice
    use_rabbitmq(f"amqp://u:p@127.0.0.1:{free_port()}/")
    assert ready() == (
        200, {"status": "degraded", "postgres": "ok", "rabbitmq": "away"}
    )


def test_how_it_is_written_may_fail(
    memory_broker: MemoryBroker, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a service that is newer than its database
    monkeypatch.setattr(processes._UNWRITTEN, "_since", None)
    with pool().connection() as connection:
        connection.execute("ALTER TABLE process RENAME TO missing")
    try:
        Notice("worker").write(Sign())
        Notice("worker").withdraw()
        assert caplog.text.count("can't write how it is") == 1
        assert troubles() == [
            "nobody can say how they are: run `manage.py migrate`"
        ]
    finally:
        with pool().connection() as connection:
            connection.execute("ALTER TABLE missing RENAME TO process")


def test_without_the_table_of_timers_it_is_unready(
    memory_broker: MemoryBroker,
) -> None:
    with pool().connection() as connection:
        connection.execute("ALTER TABLE timer RENAME TO missing")
    try:
        assert ready() == (503, {
            "status": "unready", "postgres": "unfit", "rabbitmq": "not used",
            "troubles": [
                "there is no table of timers: run `manage.py migrate`"
            ],
        })
    finally:
        with pool().connection() as connection:
            connection.execute("ALTER TABLE missing RENAME TO timer")


# --- a database that can't serve -------------------------------------------


@pytest.fixture
def ascii_database(db_pool: None) -> Iterator[str]:
    """Make a database whose encoding is SQL_ASCII, and return its name."""
    name = f"ascii_{uuid.uuid4().hex[:12]}"
    with pool().connection() as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C'"
            " LC_CTYPE 'C' TEMPLATE template0"
        )
    yield name
    database.close_pool()
    with pool().connection() as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_database_of_another_encoding_is_unfit(
    ascii_database: str, settings: Settings
) -> None:
    settings.RABBITMQ_URL = ""
    arguments = database.connection_arguments()
    there = {**arguments, "dbname": ascii_database}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "connection_arguments", lambda: there)
        database.close_pool()
        assert ready() == (503, {
            "status": "unready", "postgres": "unfit", "rabbitmq": "not used",
            "troubles": [
                "the database's encoding is SQL_ASCII: make one with ENCODING"
                " 'UTF8' TEMPLATE template0"
            ],
        })


def test_a_database_that_takes_no_writes_is_unfit(
    memory_broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = database.connection_arguments()
    with psycopg.connect(**arguments) as connection:
        assert unfit(connection) is None
    arguments["options"] = "-c default_transaction_read_only=on"
    with psycopg.connect(**arguments, autocommit=True) as connection:
        reason = unfit(connection)
    assert reason is not None
    assert reason.startswith("the database is read-only: set default_trans")
    monkeypatch.setattr(api, "unfit", lambda _: reason)
    assert ready() == (503, {
        "status": "unready", "postgres": "unfit", "rabbitmq": "not used",
        "troubles": [reason],
    })
    assert Client().get("/livez").status_code == 200


# --- a worker that feeds itself --------------------------------------------


@pytest.fixture
def feeding(
    memory_broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Feeder]:
    """Return a feeder that looks often, and is noted as a worker."""
    monkeypatch.setattr(feeder, "_POLL", 0.05)
    monkeypatch.setattr(taking_over, "SETTLE", claiming.LEAD * 0)
    made = Feeder(memory_broker)
    notices = Notices("worker", lambda: made._health.sign(TROUBLES.recent()))
    yield made
    made.close()
    notices.close()
    assert not made._thread.is_alive()


def fail(**_: Any) -> Any:
    raise psycopg.errors.NumericValueOutOfRange("smallint out of range")


def test_a_feeder_feeds_though_it_cannot_take_over_and_says_so(
    feeding: Feeder, memory_broker: MemoryBroker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taking_over, "take_over", fail)
        eventually(lambda: TROUBLES.recent())
        timer_id = new_timer(1)
        eventually(lambda: memory_broker.known(str(timer_id)))
        (found,) = eventually(troubles)
        assert "taking over: NumericValueOutOfRange: smallint" in found
        assert caplog.text.count("feeding failed") == 1
    eventually(lambda: not troubles())
    assert feeding.sign().age < 10


def test_a_feeder_feeds_what_is_near_though_not_what_is_overdue(
    feeding: Feeder, memory_broker: MemoryBroker
) -> None:
    due = queueing.due

    def due_now(*, overdue: bool, **options: Any) -> Any:
        return (fail if overdue else due)(overdue=overdue, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queueing, "due", due_now)
        overdue, near = new_timer(-30), new_timer(1)
        eventually(lambda: memory_broker.known(str(near)))
        eventually(lambda: TROUBLES.recent())
        assert not memory_broker.known(str(overdue))
    eventually(lambda: memory_broker.known(str(overdue)))


def test_a_feeder_whose_passes_hang_is_seen(
    feeding: Feeder, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(queueing, "due", lambda **_: gate.wait(20) and [])
    monkeypatch.setattr(heartbeat, "STALE_AFTER", 0.3)
    eventually(lambda: feeding.sign().age > 0.3)
    gate.set()
    eventually(lambda: feeding.sign().age < 0.3)


def test_a_feeder_outlives_trouble_with_listening(
    feeding: Feeder, memory_broker: MemoryBroker
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wakeups, "_heard", lambda *_: fail())
        eventually(lambda: TROUBLES.recent())
        timer_id = new_timer(1)
        eventually(lambda: memory_broker.known(str(timer_id)))
    eventually(lambda: not TROUBLES.recent())


# --- a real process ---------------------------------------------------------


@pytest.mark.rabbitmq
def test_any_web_process_knows_what_ails_a_dispatcher(
    make_service: Callable[..., Service],
    ladder: LadderBroker,
    shared_vhost: tuple[str, Management],
) -> None:
    # Given a dispatcher, and a database that refuses a statement
    make_service(shared_vhost[0]).start_dispatcher()
    eventually(lambda: ready()[1]["status"] == "ok")
    with pool().connection() as connection:
        connection.execute("ALTER TABLE timer RENAME leased_until TO gone")

    # When its passes fail, Then readiness says which step, and why
    try:
        why = 'taking over: UndefinedColumn: column "leased_until"'
        eventually(
            lambda: any(
                text.startswith("dispatcher ") and why in text
                for text in troubles()
            )
        )
        assert Client().get("/livez").json() == {"status": "ok"}
    finally:
        with pool().connection() as connection:
            connection.execute("ALTER TABLE timer RENAME gone TO leased_until")
    eventually(lambda: ready()[1]["status"] == "ok")
