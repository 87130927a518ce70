"""How late an account's timers are beside another's backlog (`-m load -s`).

One account has 100,000 overdue timers when the service starts, and many others
have one each. Another one has timers that are on time, and ten that are
overdue: these became due last. A run without the backlog, in the same test,
shows what the machine does: a busy one makes timers late by itself.

BACKLOG=20000 ACCOUNTS=300 make test ARGS="-m load -s -n 0 \
    tests/load/test_fair_accounts.py"
"""

import os
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
import uuid_utils.compat
from django.db import connection

from apps.timers.storage import creating
from apps.timers.storage.records import Definition, NewTimer
from tests.support.accounts import account
from tests.support.rabbitmq import virtual_host
from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.timers import (
    execute,
    late_ms,
    show_lateness,
    store_timers,
    unended,
)
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.load, pytest.mark.rabbitmq, pytest.mark.timeout(900)
]

BACKLOG = int(os.environ.get("BACKLOG", "100000"))
ACCOUNTS = int(os.environ.get("ACCOUNTS", "1000"))
#: Seconds from the start until the first timers on time are due; and in which
#: they are.
LEAD, SPAN = 5.0, 20.0
#: How much later than without the backlog the last of the ten is called, in
#: seconds; and how late those on time may be (p99), in ms.
OVERDUE_BY, ON_TIME = 5.0, 250.0
#: Or so many times as late as without the backlog, on a busy machine.
BUSY = 2.5


class Lateness(NamedTuple):
    """When the last of ten overdue ones was called, and p99 of the others."""

    overdue: float
    on_time: float


@contextmanager
def started(shape: str, directory: Path) -> Iterator[Service]:
    """Start what fires timers, in a shape of the service."""
    directory.mkdir()
    with ExitStack() as exits:
        url = ""
        if shape == "stack":
            url, _ = exits.enter_context(
                virtual_host(os.environ["RABBITMQ_URL"])
            )
        service = Service(directory, url)
        exits.callback(service.kill)
        if url:
            service.start_dispatcher()
        service.start_worker(threads=64)
        yield service


def store_backlog(url: str, of: int, count: int, since: float) -> None:
    """Store overdue timers of an account, in groups."""
    for first in range(0, count, 10_000):
        store_timers(url, [
            -since - random.random() for _ in range(min(10_000, count - first))
        ], of)


def store_one_of_each(url: str, accounts: int) -> None:
    """Store an overdue timer of each of so many new accounts."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO account (name, created_at)"
            " SELECT gen_random_uuid()::text, now()"
            " FROM generate_series(1, %s) RETURNING id", [accounts],
        )
        ids = [account_id for (account_id,) in cursor.fetchall()]
    creating.create([
        NewTimer(
            uuid_utils.compat.uuid7(), account_id, Definition(url),
            timedelta(seconds=-60), queued=False,
        )
        for account_id in ids
    ])


def measured(
    shape: str, directory: Path, others: int, backlog: int
) -> Lateness:
    """Start the service beside a backlog; print and return how late it is."""
    execute("DELETE FROM timer")
    flooding = account(f"flooding {directory.name}")
    other = account(f"other {directory.name}")
    with closing(Receiver()) as theirs, closing(Receiver()) as mine:
        store_backlog(theirs.url(), flooding, backlog, 3600)
        if others:
            store_one_of_each(mine.url(), others)
        overdue = store_timers(mine.url(), [-10] * 10, other)
        execute("VACUUM ANALYZE timer")
        with started(shape, directory):
            began = time.time()
            on_time = store_timers(mine.url(), [
                LEAD + random.uniform(0, SPAN) for _ in range(1000)
            ], other)
            eventually(lambda: not unended(overdue), within=400, every=0.1)
            eventually(lambda: not unended(on_time), within=400, every=0.5)
            seconds = time.time() - began
        last = max(
            call.arrived for call in mine.calls if call.timer in overdue
        ) - began
        print(f"\n{shape}, backlog {backlog}, {others} others: ten overdue"
              f" called {last:.1f} s after the start; in {seconds:.0f} s"
              f" {len(theirs.calls)} of the backlog,"
              f" {len(mine.calls) - 10 - len(on_time)} of the others")
        show_lateness("on time", mine, on_time)
        p99 = statistics.quantiles(late_ms(mine, on_time), n=100)[98]
    return Lateness(last, p99)


@pytest.mark.parametrize("others", [0, ACCOUNTS])
@pytest.mark.parametrize("shape", ["standalone", "stack"])
def test_beside_a_backlog(
    shape: str, others: int, db_pool: None, tmp_path: Path
) -> None:
    without = measured(shape, tmp_path / "without", others, 0)
    beside = measured(shape, tmp_path / "beside", others, BACKLOG)
    assert beside.overdue <= without.overdue + OVERDUE_BY
    assert beside.on_time <= max(ON_TIME, BUSY * without.on_time)


@pytest.mark.parametrize("shape", ["standalone", "stack"])
def test_two_large_backlogs(
    shape: str, db_pool: None, tmp_path: Path
) -> None:
    """The newer one does not wait for the end of the older one.

    Some thousands of the older one are queued before anybody looks.
    """
    with closing(Receiver()) as old, closing(Receiver()) as new:
        store_backlog(old.url(), account("old"), BACKLOG // 2, 3600)
        store_backlog(new.url(), account("new"), BACKLOG // 2, 60)
        execute("VACUUM ANALYZE timer")
        with started(shape, tmp_path / "service"):
            began = time.time()
            eventually(
                lambda: len(old.calls) + len(new.calls) > BACKLOG // 5,
                within=400, every=0.1,
            )
            print(f"\n{shape}: {len(old.calls)} calls of the older backlog and"
                  f" {len(new.calls)} of the newer one in"
                  f" {time.time() - began:.1f} s")
    assert len(new.calls) >= BACKLOG // 100
