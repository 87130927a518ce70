"""Removing timers that ended long ago, and all that is kept about them.

No column says when a timer ended, so nothing pays for one. To some seconds it
ended when it was last claimed; if it was cancelled or reconciled unclaimed, an
event has the moment; if neither happened (its row could not be used), it was
due then. A walk reads the ended timers of a status in the order of an index
that lists need anyway: who ended long ago was due long ago. Timers that were
cancelled long before they were due are found by their events
(docs/decisions/0029-retention.md).
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from apps.core.database import pool
from apps.core.rows import Row, named
from apps.timers.models import Outcome
from apps.timers.storage.aside import each_for_itself, skip, skipped
from apps.timers.storage.naming import REMEMBERED, UNNAME
from apps.timers.storage.reading import STATUS
from apps.timers.storage.replaying import LOCK_KEYS

#: How many timers one batch looks at.
BATCH = 500
#: How many rows of all tables one transaction removes at most, unless a single
#: timer has more: one may have been moved 100,000 times.
_MOST_ROWS = 5_000

_ENDED_AT = """
    coalesce(fired_at,
             (SELECT at FROM event
              WHERE timer_id = timer.id
                AND what IN ('cancelled', 'reconciled') LIMIT 1),
             next_at)
"""
# While calls are held, somebody may be looking at what a backup had.
_NOT_HELD = "NOT EXISTS (SELECT FROM hold)"
#: About how many rows a timer has: changes, attempts and itself.
_ROWS = "version::bigint + attempts + claims"


def _find(status: str) -> str:
    """Return the query of a batch of ended timers, in the index's order."""
    return f"""
    SELECT id, due_at::text AS moment, {_ROWS} AS rows,
           {_ENDED_AT} < now() - %(term)s AS is_over
    FROM timer
    WHERE account_id = %(account)s
      AND outcome IS NOT NULL AND ({STATUS}) COLLATE "C" = '{status}'
      AND due_at < now() - %(term)s
      AND (due_at, id) > (%(moment)s::timestamptz, %(id)s)
      AND id <> ALL(%(skipped)b::uuid[])
      AND {_NOT_HELD}
    ORDER BY due_at, id LIMIT {BATCH}
    """


FIND_CANCELLED = f"""
SELECT timer_id AS id, at::text AS moment, true AS is_over,
       (SELECT {_ROWS} FROM timer WHERE timer.id = timer_id) AS rows
FROM event
WHERE what = 'cancelled' AND at < now() - %(term)s
  AND (at, timer_id) > (%(moment)s::timestamptz, %(id)s)
  AND timer_id <> ALL(%(skipped)b::uuid[])
  AND {_NOT_HELD}
ORDER BY at, timer_id LIMIT {BATCH}
"""

#: For each outcome the query that finds an account's timers.
FIND = {outcome: _find(outcome.value) for outcome in Outcome}

ACCOUNTS = "SELECT id FROM account ORDER BY id"

# A timer that is just being replayed, or removed by another process, is left
# out. Arrays have Postgres look up each timer's rows by index, however many it
# expects.
REMOVE = f"""
WITH ended AS MATERIALIZED (
    SELECT id FROM timer
    WHERE id = ANY(%(ids)b::uuid[]) AND outcome IS NOT NULL
      AND {_ENDED_AT} < now() - %(term)s
    ORDER BY id
    FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM timer USING ended WHERE timer.id = ended.id
    RETURNING timer.id, timer.account_id, timer.key, timer.labels,
              timer.due_at
),
tried AS (
    DELETE FROM attempt WHERE timer_id = ANY(ARRAY(SELECT id FROM gone))
),
noted AS (
    DELETE FROM event WHERE timer_id = ANY(ARRAY(SELECT id FROM gone))
),
{UNNAME}
SELECT count(*) FROM gone
"""


def _forget(table: str) -> str:
    """Return the statement that removes keys of requests.

    They are kept for an hour more: a request may just be reading one.
    """
    return f"""
    DELETE FROM {table} WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM {table}
        WHERE created_at < now() - interval '{REMEMBERED}' - interval '1 hour'
        ORDER BY created_at LIMIT {BATCH}
        FOR UPDATE SKIP LOCKED
    ))
    """


FORGET = {table: _forget(table) for table in ("request_key", "request_chunk")}


def remove(outcome: Outcome, term: timedelta) -> Iterator[int]:
    """Remove the timers that ended so, longer ago than the term.

    Each step does one batch, and yields how many timers it has removed. What
    others hold at that moment is left for another walk. A row that can't be
    removed is skipped for a minute.
    """
    # Those that an old version cancelled have no event.
    if outcome is Outcome.CANCELLED:
        yield from _walk(FIND_CANCELLED, {"term": term})
    with pool().connection() as connection:
        accounts = connection.execute(ACCOUNTS).fetchall()
    for (account,) in accounts:
        yield from _walk(FIND[outcome], {"term": term, "account": account})


def _walk(query: str, values: dict[str, Any]) -> Iterator[int]:
    remove = partial(_remove, values["term"])
    moment, timer_id = "-infinity", UUID(int=0)
    while rows := _read(query, {**values, "moment": moment, "id": timer_id}):
        yield sum(
            sum(each_for_itself(remove, group, skip))
            for group in _groups(rows)
        )
        if len(rows) < BATCH:
            break
        moment, timer_id = rows[-1]["moment"], rows[-1]["id"]


def forget(table: str) -> Iterator[int]:
    """Remove keys of requests that are no longer remembered.

    Each step does one batch, and yields 0, since it removes no timers.
    """
    removed = BATCH
    while removed == BATCH:
        with pool().connection() as connection:
            removed = connection.execute(FORGET[table]).rowcount
        yield 0


def _read(query: str, values: dict[str, Any]) -> list[Row]:
    """Return the batch that comes after a moment and a timer."""
    with pool().connection() as connection:
        return named(
            connection.execute(query, {**values, "skipped": skipped.ids()})
        )


def _groups(rows: Sequence[Row]) -> Iterator[list[UUID]]:
    """Divide the timers that are over by how many rows they have."""
    group: list[UUID] = []
    size = 0
    for row in rows:
        if not row["is_over"]:
            continue
        weight = max(row["rows"] or 0, 1)
        if group and size + weight > _MOST_ROWS:
            yield group
            group, size = [], 0
        group.append(row["id"])
        size += weight
    if group:
        yield group


def _remove(term: timedelta, timer_ids: Sequence[UUID]) -> list[int]:
    """Remove timers with all that is theirs, in one transaction."""
    values = {"ids": list(timer_ids), "term": term}
    with pool().connection() as connection, connection.transaction():
        connection.execute(LOCK_KEYS, values)
        row = connection.execute(REMOVE, values).fetchone()
    assert row is not None
    return [row[0]]
