"""The numbers are those of the rows, also after a power cut (`-m load -s`).

100,000 timers at receivers of all sorts, with retries and cancels; in the
middle every process, Postgres's included, is killed.
"""

import os
import random
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support import rollups
from tests.support.receiver import Receiver
from tests.support.servers import OwnPostgres
from tests.support.service import Service
from tests.support.waiting import eventually

pytestmark = [pytest.mark.load, pytest.mark.timeout(1800)]

TIMERS, CHUNK = 100_000, 1_000


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[OwnPostgres]:
    with OwnPostgres(tmp_path) as server:
        yield server


@pytest.fixture
def service(postgres: OwnPostgres, tmp_path: Path) -> Iterator[Service]:
    service = Service(
        tmp_path, "", DATABASE_URL=postgres.url,
        WEBHOOK_CONNECT_RETRY_SECONDS="0",
    )
    service.manage("migrate", "--verbosity", "0")
    service.start_all(threads=64)
    yield service
    service.kill()


def cut_power(service: Service, postgres: OwnPostgres) -> None:
    """SIGKILL every process, and start them again."""
    for process in service.processes:
        if process.is_running():
            process.send_all(signal.SIGKILL)
    for pid in postgres.pids():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    service.kill()
    postgres.kill()
    postgres.start()
    service.start_all(threads=64)


def test_the_numbers_are_those_of_the_rows_after_a_power_cut(
    service: Service, postgres: OwnPostgres, receiver: Receiver
) -> None:
    failing, absent = Receiver(), Receiver(absent=True)
    failing.status = 503
    targets = [
        (receiver.url(), 8), (failing.url(), 1), (absent.url(), 1),
        ("http://localhost:9/", 1),
    ]
    urls = random.Random(1).choices(*zip(*targets, strict=True), k=TIMERS)

    def ask(query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(postgres.url, connect_timeout=5) as connection:
            return connection.execute(query.encode()).fetchall()

    def count(condition: str) -> int:
        [(found,)] = ask(f"SELECT count(*) FROM timer WHERE {condition}")
        return int(found)

    # Given timers that are set, called, retried and cancelled meanwhile
    retry = {"max_attempts": 2, "min_delay": 1}
    for first in range(0, TIMERS, CHUNK):
        answers: Any
        _, answers = service.request("POST", "/timers", [
            {"hours": 0, "minutes": 0, "seconds": n % 60, "url": url,
             "retry": retry}
            for n, url in enumerate(urls[first:first + CHUNK])
        ])
        doomed = [each["id"] for each in answers[50:70]]
        service.request("POST", "/timers/cancel", {"ids": doomed})

    # When all power is cut amid calls
    eventually(lambda: count("leased_until IS NOT NULL") > 10, within=60)
    cut_power(service, postgres)
    eventually(
        lambda: not count("outcome IS NULL"), within=1500, every=1.0
    )
    eventually(
        lambda: ask("SELECT count(*) FROM tally") == [(0,)], within=60
    )

    # Then the numbers are those of the rows
    raw = rollups.raw(ask)
    print(sorted(rollups.of_all(raw).items()))
    rollups.check(ask)
    with urllib.request.urlopen(
        f"http://127.0.0.1:{service.port}/", timeout=10
    ) as answer:
        page = answer.read().decode()
    assert rollups.shown_shares(page) == rollups.shares(raw)
    failing.close()
    absent.close()
