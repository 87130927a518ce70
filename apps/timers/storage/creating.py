"""Storing new timers, many at a time."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from apps.core.database import pool
from apps.timers.storage.queueing import CHANNEL, HORIZON
from apps.timers.storage.records import NewTimer
from apps.timers.storage.rows import read_clock
from apps.webhooks.target import host_of

CREATE = f"""
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now,
           CASE WHEN %(notify)s THEN pg_notify('{CHANNEL}', '') END
),
stored AS (
    INSERT INTO timer (id, url, host, method, headers, body, retry,
                       max_lateness, created_at, due_at, next_at, queued_at,
                       at_least_once)
    SELECT id, url, host, method, headers, body, retry, max_lateness,
           now, now + delay, now + delay,
           CASE WHEN queued THEN now END, at_least_once
    FROM clock, unnest(%(ids)b::uuid[], %(urls)b::text[], %(hosts)b::text[],
                       %(methods)b::text[], %(headers)b::jsonb[],
                       %(bodies)b::bytea[], %(retries)b::jsonb[],
                       %(lateness)b::interval[], %(delays)b::interval[],
                       %(queued)b::boolean[], %(again)b::boolean[])
         AS new (id, url, host, method, headers, body, retry, max_lateness,
                 delay, queued, at_least_once)
)
SELECT now FROM clock
"""


def create(timers: Sequence[NewTimer]) -> list[float]:
    """Store timers; return when each is due, on `time.monotonic()`.

    If none of them is queued, nobody needs exact times: the delays count from
    the moment before the timers were stored. Dispatchers and feeders are woken
    if a near timer is not queued by its creator.
    """
    with pool().connection() as connection:
        began = time.monotonic()
        row = connection.execute(
            CREATE,
            {
                "ids": [timer.id for timer in timers],
                "urls": [timer.url for timer in timers],
                "hosts": [host_of(timer.url) for timer in timers],
                "methods": [timer.request.method for timer in timers],
                "headers": _given(
                    _json(timer.request.headers) for timer in timers
                ),
                "bodies": _given(timer.request.body for timer in timers),
                "retries": _given(
                    timer.retry and _json(asdict(timer.retry))
                    for timer in timers
                ),
                "lateness": _given(timer.max_lateness for timer in timers),
                "delays": [timer.delay for timer in timers],
                "queued": [timer.queued for timer in timers],
                "again": [timer.at_least_once for timer in timers],
                "notify": any(
                    timer.delay <= HORIZON and not timer.queued
                    for timer in timers
                ),
            },
        ).fetchone()
        if any(timer.queued for timer in timers):
            assert row is not None
            began = read_clock(connection).to_monotonic(row[0])
    return [began + timer.delay.total_seconds() for timer in timers]


def _given(values: Iterable[Any]) -> list[Any] | None:
    """Return a column, None if it has no values: unnest() fills in NULLs."""
    column = list(values)
    return column if any(value is not None for value in column) else None


def _json(value: Mapping[str, Any] | None) -> str | None:
    return json.dumps(dict(value)) if value else None
