"""What /metrics says is what the rows say."""

import re
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from django.test import Client

from apps.broker.rabbitmq import LadderBroker
from apps.core.database import connect, pool
from apps.monitoring.metrics import exposition, stored
from apps.timers.scheduling import publishing
from apps.timers.storage.records import DueMessage
from deploy import commands
from tests.support import rollups
from tests.support.metrics import parsed, scrape
from tests.support.ports import free_port
from tests.support.postgres_switch import PostgresSwitch
from tests.support.rabbitmq import Management
from tests.support.receiver import Receiver
from tests.support.rows import fill, new_timers
from tests.support.service import Process, Service
from tests.support.waiting import eventually

#: What the numbers should be, by the rows. A worker that died has recorded
#: nothing but its end.
EXPECTED = """
SELECT 'timers_created_total', count(*) FROM timer
UNION ALL
SELECT 'timers_ended_total ' || outcome, count(*)
FROM timer WHERE outcome IS NOT NULL GROUP BY outcome
UNION ALL
SELECT 'timers_calls_total ' ||
       CASE WHEN status_code IS NOT NULL THEN status_code / 100 || 'xx'
            WHEN error LIKE '%worker died%' THEN 'worker_died'
            ELSE split_part(error, ':', 1) END, count(*)
FROM attempt GROUP BY 1
UNION ALL
SELECT 'timers_call_lateness_seconds_count', count(sent_at)
FROM attempt WHERE duration IS NOT NULL
UNION ALL
SELECT 'timers_call_lateness_seconds_sum',
       sum(extract(epoch FROM sent_at - due_at))
FROM attempt WHERE duration IS NOT NULL
UNION ALL
SELECT 'timers_call_duration_seconds_count', count(duration) FROM attempt
UNION ALL
SELECT 'timers_call_duration_seconds_sum',
       sum(extract(epoch FROM duration)) FROM attempt
UNION ALL
SELECT 'timers_retries_total', count(*) - count(DISTINCT timer_id)
FROM attempt
UNION ALL
SELECT 'timers_taken_over_total unknown', count(*)
FROM timer WHERE outcome = 'unknown'
"""


def rows(query: str) -> list[tuple[Any, ...]]:
    with pool().connection() as connection:
        return connection.execute(query).fetchall()


def count(condition: str) -> int:
    [(found,)] = rows(f"SELECT count(*) FROM timer WHERE {condition}")
    return int(found)


def answered(port: int) -> Counter[str]:
    """Return the numbers, none if nobody answers."""
    try:
        return scrape(port)
    except OSError:
        return Counter()


def count_in(table: str) -> int:
    [(found,)] = rows(f"SELECT count(*) FROM {table}")
    return int(found)


def page(service: Service) -> str:
    url = f"http://127.0.0.1:{service.port}/"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def begin_web(service: Service) -> Process:
    """Start two web processes that share a port."""
    command = commands.web("127.0.0.1", service.port, 2)[1:]
    return service.start("web", *command)


def wait_for_web(service: Service) -> None:
    eventually(
        lambda: answered(service.port)["timers_processes"] == 2, within=30
    )


def set_many(service: Service, count: int, **timer: Any) -> list[str]:
    item = {"hours": 0, "minutes": 0, "seconds": 0, **timer}
    answers: Any
    status, answers = service.request("POST", "/timers", [item] * count)
    assert status == 200
    return [each["id"] for each in answers]


def cancel(service: Service, timer: str) -> None:
    address = f"http://127.0.0.1:{service.port}/timer/{timer}"
    request = urllib.request.Request(address, method="DELETE")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 204


def test_the_numbers_are_those_of_the_rows(
    make_service: Callable[..., Service], receiver: Receiver, absent: Receiver
) -> None:
    # Given two web processes, and two of a worker
    service = make_service(
        METRICS_PORT=str(free_port()), WEBHOOK_CONNECT_RETRY_SECONDS="0"
    )
    port = int(service.env["METRICS_PORT"])
    begin_web(service)
    worker = service.start_worker(processes=2)
    wait_for_web(service)
    failing, holding = Receiver(), Receiver()
    failing.status = 500
    holding.gate.clear()

    # When there are all sorts of timers
    service.set_timers(20, 0, receiver.url())
    set_many(service, 900, url=receiver.url())
    retry = {"max_attempts": 2, "min_delay": 1}
    set_many(service, 30, url=failing.url(), retry=retry)
    set_many(service, 20, url=absent.url())
    far = set_many(service, 40, url=receiver.url(), hours=1)
    for timer in far[:5]:
        cancel(service, timer)
    service.request("POST", "/timers/cancel", {"ids": far[5:30]})
    service.request("PUT", "/timer/by-key/a", {
        "hours": 1, "minutes": 0, "seconds": 0, "url": receiver.url(),
    })  # fmt: skip
    eventually(lambda: count("outcome IS NOT NULL") == 1000, within=30)
    set_many(service, 3, url=holding.url())
    eventually(lambda: count("sent_at IS NOT NULL AND outcome IS NULL") == 3)

    # And a worker is killed while it calls, and its claims are taken over
    found = scrape(port)
    worker.kill()
    rows("UPDATE timer SET leased_until = now() - interval '1 s'"
         " WHERE leased_until IS NOT NULL RETURNING id")
    service.start_worker(processes=2)
    eventually(lambda: count("outcome = 'unknown'") == 3, within=20)

    # Then the numbers of the killed worker, of the next one and of web
    # together are those of the rows
    postponed = service.log().count("timer postponed")
    eventually(lambda: scrape(port)["timers_taken_over_total unknown"] == 3)
    web = scrape(service.port)
    found += scrape(port) + web
    for name, value in rows(EXPECTED):
        assert found[name] == pytest.approx(float(value)), name
    assert found["timers_ended_total cancelled"] == 30
    assert (
        found["timers_retries_total"] + found["timers_deferrals_total"]
        == postponed
    )
    assert web["timers_postgres_answers"] == 1
    assert found["timers_passes_total good"] > 2

    # And so are those of the pages
    eventually(lambda: not count_in("tally"))
    rollups.check()
    text = page(service)
    assert rollups.shown_shares(text) == rollups.shares(rollups.raw())
    assert re.search(r"\d of \d+ threads call", text)
    failing.close()
    holding.close()


def test_web_processes_behind_one_port_give_one_sum(
    make_service: Callable[..., Service], receiver: Receiver
) -> None:
    # Given two processes, both of which have set timers
    service = make_service()
    web = begin_web(service)
    wait_for_web(service)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(
            lambda _: service.set_timer(3600, receiver.url()), range(60)
        ))

    # When they are asked, Then whichever answers says the same
    found = {scrape(service.port)["timers_created_total"] for _ in range(20)}
    assert found == {60}

    # When one is killed, Then the sum stays, and the next one goes on
    children = {each.pid for each in psutil.Process(web.pid).children()}
    psutil.Process(min(children)).send_signal(signal.SIGKILL)
    eventually(
        lambda: len(
            {each.pid for each in psutil.Process(web.pid).children()}
            - children
        )
    )
    service.set_timer(3600, receiver.url())
    found = {scrape(service.port)["timers_created_total"] for _ in range(20)}
    assert found == {61}


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


def listening(process: Process) -> set[tuple[str, int]]:
    """Return the addresses that a process and its children listen on."""
    head = psutil.Process(process.pid)
    return {
        (each.laddr.ip, each.laddr.port)
        for one in (head, *head.children(recursive=True))
        for each in one.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
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
    eventually(lambda: count("queued_at IS NOT NULL") == 3)

    # Then it says that it does its work
    eventually(lambda: answered(port)["timers_pool_connections timers"])
    found = answered(port)
    assert listening(dispatcher) == {("127.0.0.1", port)}
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
