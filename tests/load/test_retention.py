"""Retention at size: what it costs, what it disturbs, what grows.

`make test ARGS="-n 0 -m load -s tests/load/test_retention.py"`. TIMERS says
how many have ended within 30 days (10,000,000, which take 10 GB of disk), and
DAYS how many days pass (20). One in a hundred was cancelled a year before its
time, one in ten has a label, and each minute leaves a timer that sleeps for a
year.
"""

import os
import statistics
import threading
import time
from collections.abc import Callable
from uuid import uuid4

import psutil  # type: ignore[import-untyped]
import pytest
from pytest_django import Settings

from apps.core.database import connect, pool
from apps.timers.scheduling import retention
from apps.timers.storage import claiming, recording
from apps.timers.storage.claim_records import Claim, ClaimRequest, Mark
from tests.load.bench.usage import cpu, tree
from tests.support.rows import database_clock, new_timers, report

pytestmark = [
    pytest.mark.load, pytest.mark.timeout(7200),
    pytest.mark.usefixtures("db_pool"),
]

TIMERS = int(os.environ.get("TIMERS", "10000000"))
KEPT = 30  # days
A_DAY = TIMERS // KEPT
#: How many days pass.
DAYS = int(os.environ.get("DAYS", "20"))
GROUP = 50
#: How long creates and claims are counted at a time, in seconds, and how
#: often with and without retention.
SECONDS, ROUNDS = 10, 5
URL = "https://receiver.example/orders/17/reminders"
TABLES = ("timer", "attempt", "event", "timer_label")
CHUNK = 50_000

# `at` is when a timer ends, in equal steps from `first` days ago on.
MAKE = """
WITH made AS MATERIALIZED (
    SELECT n, n %% 100 = 7 AS cancelled,
           now() - %(first)s * interval '1 day'
               + n * interval '1 day' / %(a_day)s AS at
    FROM generate_series(%(start)s::bigint, %(end)s) AS n
),
stored AS (
    INSERT INTO timer (id, url, host, created_at, due_at, next_at, labels,
                       fired_at, claim_token, claims, sent_at, outcome,
                       status_code, version)
    SELECT uuidv7(at - now()), %(url)s, 'host' || n %% 100 || '.example', at,
           CASE WHEN cancelled THEN at + interval '1 year' ELSE at END,
           CASE WHEN cancelled THEN at + interval '1 year' ELSE at END,
           CASE WHEN n %% 10 = 3
                THEN jsonb_build_object('user', (n %% 1000)::text) END,
           CASE WHEN has_fired THEN at END,
           CASE WHEN has_fired THEN gen_random_uuid() END,
           has_fired::int,
           CASE WHEN has_fired THEN at END,
           CASE WHEN has_fired THEN 'delivered'
                WHEN cancelled THEN 'cancelled' END,
           CASE WHEN has_fired THEN 200 END,
           1 + cancelled::int
    FROM made CROSS JOIN LATERAL (
        SELECT %(ended)s AND NOT cancelled AS has_fired
    ) AS fired
    RETURNING id, created_at, due_at, labels, fired_at, outcome
),
labelled AS (
    INSERT INTO timer_label (name, value, due_at, timer_id)
    SELECT 'user', labels ->> 'user', due_at, id FROM stored
    WHERE labels IS NOT NULL
),
noted AS (
    INSERT INTO event (timer_id, at, what)
    SELECT id, created_at, 'cancelled' FROM stored
    WHERE outcome = 'cancelled'
)
INSERT INTO attempt (timer_id, number, due_at, sent_at, status_code, duration)
SELECT id, 1, due_at, fired_at, 200, interval '5 ms' FROM stored
WHERE fired_at IS NOT NULL
"""
SLEEP = """
INSERT INTO timer (id, url, host, created_at, due_at, next_at)
SELECT uuidv7(at - now()), %(url)s, 'host1.example', at,
       at + interval '1 year', at + interval '1 year'
FROM (SELECT now() - %(first)s * interval '1 day' + n * interval '1 min' AS at
      FROM generate_series(1, %(minutes)s) AS n) AS minutes
"""
#: As claim, mark and record change the rows of those that wait.
LIVE = (
    """
    UPDATE timer SET fired_at = next_at, claim_token = gen_random_uuid(),
        leased_until = next_at + interval '20 s', claims = 1
    WHERE fired_at IS NULL AND outcome IS NULL AND queued_at IS NULL
      AND next_at < now() + interval '60 day'
    """,
    "UPDATE timer SET sent_at = fired_at WHERE leased_until IS NOT NULL",
    """
    WITH held AS (
        UPDATE timer SET outcome = 'delivered', leased_until = NULL,
            status_code = 200
        WHERE leased_until IS NOT NULL
        RETURNING id, due_at, sent_at
    )
    INSERT INTO attempt (timer_id, number, due_at, sent_at, status_code,
                         duration)
    SELECT id, 1, due_at, sent_at, 200, interval '5 ms' FROM held
    """,
)


def make(first: float, days: float, *, lively: bool) -> None:
    """Store timers that end within some days, one after the other.

    The lively ones go through all versions of their rows.
    """
    count = round(days * A_DAY)
    values = {"first": first, "a_day": A_DAY, "url": URL, "ended": not lively}
    with connect() as connection:
        for start in range(0, count, CHUNK):
            end = min(start + CHUNK, count) - 1
            connection.execute(MAKE, {**values, "start": start, "end": end})
            for statement in LIVE if lively else ():
                connection.execute(statement)
        connection.execute(SLEEP, {**values, "minutes": round(days * 1440)})


def vacuum() -> None:
    """Do what autovacuum does, without its pauses."""
    with connect() as connection:
        connection.execute(f"VACUUM ANALYZE {', '.join(TABLES)}")


def sizes() -> dict[str, int]:
    """Return the bytes of each table and index."""
    with connect() as connection:
        rows = connection.execute(
            "SELECT relname, pg_table_size(oid) FROM pg_class"
            " WHERE relname = ANY(%(tables)s) OR oid IN ("
            "  SELECT indexrelid FROM pg_index JOIN pg_class"
            "  ON pg_class.oid = indrelid WHERE relname = ANY(%(tables)s))",
            {"tables": list(TABLES)},
        ).fetchall()
    return {name: int(size) for name, size in rows}


def show(title: str, found: dict[str, int], before: dict[str, int]) -> None:
    """Print sizes in MB, and how they grew."""
    parts = [
        f"{name} {size / 1e6:,.0f} ({(size / before[name] - 1):+.1%})"
        for name, size in sorted(found.items(), key=lambda item: -item[1])
        if size > 1e6
    ]
    print(f"{title}: {sum(found.values()) / 1e6:,.0f} MB: {', '.join(parts)}")


def count() -> int:
    with connect() as connection:
        row = connection.execute("SELECT count(*) FROM timer").fetchone()
    assert row is not None
    return int(row[0])


def postgres_cpu() -> Callable[[], float]:
    """Return a function that returns Postgres's CPU seconds."""
    with pool().connection() as connection:
        backend = psutil.Process(connection.info.backend_pid)
    server = backend.ppid()
    return lambda: cpu(tree(server))


def lives(seconds: float) -> float:
    """Have timers created, claimed, marked, recorded; return how many a s."""
    began, done = time.monotonic(), 0
    while time.monotonic() < began + seconds:
        ids = new_timers(GROUP, 0, url=URL, queued=True)
        asked = [ClaimRequest(each, uuid4()) for each in ids]
        claims = [c for c in claiming.claim(asked) if isinstance(c, Claim)]
        now = database_clock()
        claiming.mark_sent([Mark(c.id, c.token, now) for c in claims])
        recording.record([report(each) for each in claims])
        done += GROUP
    return done / (time.monotonic() - began)


def test_a_day_goes_and_nothing_grows(settings: Settings) -> None:
    # Given timers that have ended within 30 days
    settings.RETENTION_DAYS = settings.RETENTION_FAILED_DAYS = KEPT
    began = time.monotonic()
    make(KEPT, KEPT, lively=False)
    vacuum()
    total, first = count(), sizes()
    print(f"\n{total:,} timers made in {time.monotonic() - began:,.0f} s")
    show("at first", first, first)

    # When a day passes, Then retention needs so much CPU for it
    used = postgres_cpu()
    settings.RETENTION_DAYS = KEPT - 1
    before, began, mine = used(), time.monotonic(), time.thread_time()
    done = retention.run_once(lambda _: False)
    took, mine = time.monotonic() - began, time.thread_time() - mine
    print(
        f"a day of {done.removed:,} in {took:.1f} s:"
        f" {used() - before:.1f} s of Postgres, {mine:.1f} s of Python"
    )
    assert not done.failed
    assert done.removed > 0.98 * A_DAY
    before = used()
    vacuum()
    print(f"its vacuum: {used() - before:.1f} s of Postgres")

    # When creates and claims go on beside the next day's
    settings.RETENTION_DAYS = KEPT - 2
    beside()

    # When more days pass, Then the files stay as they are
    retention.run_once(lambda _: False)
    vacuum()
    base = sizes()
    for day in range(3, DAYS + 1):
        make(3 - day, 1, lively=True)
        settings.RETENTION_DAYS = KEPT - day
        vacuum()
        done = retention.run_once(lambda _: False)
        vacuum()
        show(f"day {day}, {done.removed:,} gone", sizes(), base)
    last = sizes()
    began = time.monotonic()
    with connect() as connection:
        connection.execute("REINDEX INDEX CONCURRENTLY timer_pkey")
    show(f"after {time.monotonic() - began:.1f} s of REINDEX", sizes(), base)

    # But for the pages of the primary key that have a sleeper, and what the
    # new sleepers need
    others = base.keys() - {"timer_pkey", "timer_unqueued"}
    assert sum(map(last.__getitem__, others)) < 1.05 * sum(
        map(base.__getitem__, others)
    )


def beside() -> None:
    """Print how many timers live a second, without retention and with it."""
    alone, together, removed = [], [], 0
    for _ in range(ROUNDS):
        alone.append(lives(SECONDS))
        stopping = threading.Event()
        rounds: list[retention.Round] = []
        thread = threading.Thread(
            target=lambda: rounds.append(  # noqa: B023
                retention.run_once(stopping.wait)  # noqa: B023
            )
        )
        thread.start()
        together.append(lives(SECONDS))
        stopping.set()
        thread.join()
        removed += rounds[0].removed
    slower = 1 - statistics.median(together) / statistics.median(alone)
    print(
        f"lives a second: {statistics.median(alone):,.0f} alone,"
        f" {statistics.median(together):,.0f} beside retention"
        f" ({slower:.1%} less), which removed"
        f" {removed / ROUNDS / SECONDS:,.0f} a second"
    )
