"""Storing new timers, many at a time."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.core.database import Connection, pool
from apps.core.sealing import ring
from apps.timers.storage import sealed
from apps.timers.storage.queueing import CHANNEL, HORIZON
from apps.timers.storage.records import Definition, NewTimer, read_clock
from apps.webhooks.target import host_of

#: The timers to store, as `columns` gives them.
NEW = """
    (SELECT unnest(%(ids)b::uuid[]) AS id,
            unnest(%(accounts)b::integer[]) AS account_id,
            unnest(%(urls)b::text[]) AS url,
            unnest(%(hosts)b::text[]) AS host,
            unnest(%(methods)b::text[]) AS method,
            unnest(%(headers)b::jsonb[]) AS headers,
            unnest(%(bodies)b::bytea[]) AS body,
            unnest(%(retries)b::jsonb[]) AS retry,
            unnest(%(lateness)b::interval[]) AS max_lateness,
            unnest(%(delays)b::interval[]) AS delay,
            unnest(%(due_at)b::timestamptz[]) AS due_at,
            unnest(%(queued)b::boolean[]) AS queued,
            unnest(%(again)b::boolean[]) AS at_least_once) AS new
"""

#: The id of the key that a new row is encrypted with.
ENCRYPTED_WITH = """
    CASE WHEN headers IS NOT NULL OR body IS NOT NULL
         THEN %(encrypted_with)s::text END
"""

CREATE = f"""
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now,
           CASE WHEN %(notify)s THEN pg_notify('{CHANNEL}', '') END
),
stored AS (
    INSERT INTO timer (id, account_id, url, host, method, headers, body,
                       encrypted_with, retry, max_lateness, created_at, due_at,
                       next_at, queued_at, at_least_once)
    SELECT id, account_id, url, host, method, headers, body, {ENCRYPTED_WITH},
           retry, max_lateness, now, coalesce(due_at, now + delay),
           coalesce(due_at, now + delay),
           CASE WHEN queued THEN now END, at_least_once
    FROM clock, {NEW}
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
        return due(connection, timers, store(connection, timers), began)


def store(connection: Connection, timers: Sequence[NewTimer]) -> datetime:
    """Store timers; return the moment from which their delays count."""
    row = connection.execute(CREATE, columns(timers)).fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


def due(
    connection: Connection,
    timers: Sequence[NewTimer],
    now: datetime,
    began: float,
) -> list[float]:
    """Return when timers are due that are stored; see `create`.

    now, began  the moment when they were stored, and one before that on
                `time.monotonic()`
    """
    if not any(timer.queued for timer in timers):
        return [began + timer.delay.total_seconds() for timer in timers]
    clock = read_clock(connection)
    return [
        clock.to_monotonic(timer.due_at or now + timer.delay)
        for timer in timers
    ]


def columns(timers: Sequence[NewTimer]) -> dict[str, Any]:
    """Return the values of NEW, and whether to wake the dispatchers."""
    ids = [timer.id for timer in timers]
    return {
        **definitions(ids, [timer.definition for timer in timers]),
        "ids": ids,
        "accounts": [timer.account for timer in timers],
        "delays": [timer.delay for timer in timers],
        "due_at": _given(timer.due_at for timer in timers),
        "queued": [timer.queued for timer in timers],
        "notify": any(
            timer.delay <= HORIZON and not timer.queued for timer in timers
        ),
    }


def definitions(
    timer_ids: Sequence[UUID], given: Sequence[Definition | None]
) -> dict[str, Any]:
    """Return the columns that say what to call, NULL where there is None.

    Headers and bodies are encrypted, if there is a key for that.
    """
    headers = _given(each and _json(each.request.headers) for each in given)
    bodies = _given(each and each.request.body for each in given)
    keys = ring()
    if keys.current is not None:
        headers = headers and sealed.headers(keys, timer_ids, headers)
        bodies = bodies and sealed.bodies(keys, timer_ids, bodies)
    return {
        "urls": [each and each.url for each in given],
        "hosts": [each and host_of(each.url) for each in given],
        "methods": [each and each.request.method for each in given],
        "headers": headers,
        "bodies": bodies,
        "encrypted_with": keys.current,
        "retries": _given(
            each and each.retry and _json(asdict(each.retry))
            for each in given
        ),
        "lateness": _given(each and each.max_lateness for each in given),
        "again": [each and each.at_least_once for each in given],
        "labels": _given(each and _json(each.labels) for each in given),
    }


def _given(values: Iterable[Any]) -> list[Any] | None:
    """Return a column, None if it has no values: unnest() fills in NULLs."""
    column = list(values)
    return column if any(value is not None for value in column) else None


def _json(value: Mapping[str, Any] | None) -> str | None:
    return json.dumps(dict(value)) if value else None
