"""What the processes' /metrics say together is what the rows say."""

import re
import signal
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from apps.core.database import pool
from deploy import commands
from tests.support import rollups
from tests.support.metrics import answered, scrape
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.service import Process, Service
from tests.support.waiting import eventually

#: What Postgres calls the sessions of the worker that is killed.
FIRST = "first worker"
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


def count_in(table: str) -> int:
    [(found,)] = rows(f"SELECT count(*) FROM {table}")
    return int(found)


def sessions(name: str) -> int:
    return count_in(f"pg_stat_activity WHERE application_name = '{name}'")


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


@pytest.fixture(scope="module")
def module_metered(
    django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Run two web processes, and two of a worker."""
    service = Service(
        tmp_path_factory.mktemp("metered"), "",
        METRICS_PORT=str(free_port()), WEBHOOK_CONNECT_RETRY_SECONDS="0",
    )
    begin_web(service)
    service.start_worker(processes=2, PGAPPNAME=FIRST)
    wait_for_web(service)
    yield service
    service.kill()


@pytest.fixture
def metered(module_metered: Service, db_pool: None) -> Service:
    """Return the module's processes, on an empty table."""
    return module_metered


def test_the_numbers_are_those_of_the_rows(
    metered: Service, receiver: Receiver, absent: Receiver
) -> None:
    # Given processes that have counted nothing yet
    service = metered
    port = int(service.env["METRICS_PORT"])
    (worker,) = (p for p in service.processes if p.name == "worker")
    failing, holding = Receiver(), Receiver()
    failing.status = 500
    holding.gate.clear()

    # When there are all sorts of timers
    service.set_timers(20, 0, receiver.url())
    set_many(service, 150, url=receiver.url())
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
    eventually(lambda: count("outcome IS NOT NULL") == 250, within=30)
    set_many(service, 3, url=holding.url())
    eventually(lambda: count("sent_at IS NOT NULL AND outcome IS NULL") == 3)

    # And a worker is killed while it calls, and its claims are taken over
    found = scrape(port)
    assert sessions(FIRST)
    worker.kill()
    # Postgres may still run a statement that it sent before it died.
    eventually(lambda: not sessions(FIRST))
    rows("UPDATE timer SET leased_until = now() - interval '1 s'"
         " WHERE leased_until IS NOT NULL RETURNING id")
    service.start_worker()
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
    metered: Service, receiver: Receiver
) -> None:
    # Given two processes, both of which have set timers
    service = metered
    web = service.processes[0]
    before = scrape(service.port)["timers_created_total"]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(
            lambda _: service.set_timer(3600, receiver.url()), range(60)
        ))

    # When they are asked, Then whichever answers says the same
    found = {scrape(service.port)["timers_created_total"] for _ in range(20)}
    assert found == {before + 60}

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
    assert found == {before + 61}
