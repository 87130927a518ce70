"""Looking at timers: one, its attempts, or those that gave up."""

from dataclasses import asdict
from uuid import UUID

from apps.core.database import list_pool, pool
from apps.timers.storage import reading
from apps.timers.storage.records import (
    Attempt,
    Definition,
    GaveUpFilter,
    StoredTimer,
)
from apps.timers.storage.rows import named

GET = f"SELECT {reading.SHOWN} FROM timer WHERE id = %(id)s"

DEFINITION = """
SELECT version, url, method, headers, body, retry, at_least_once,
       max_lateness, labels
FROM timer WHERE id = %(id)s
"""

ATTEMPTS = """
SELECT number, due_at, sent_at, status_code, error, duration, answer
FROM attempt WHERE timer_id = %(id)s ORDER BY number
"""


# A missing bound becomes one that all timers meet: no index could serve an OR.
# Postgres takes a bare pattern for one that matches next to nothing, and would
# read all sleeping timers to find that.
def _failed(host: str = "") -> str:
    return f"""
    SELECT {reading.SHOWN} FROM timer
    WHERE outcome IN ('failed', 'unknown', 'missed')
      AND outcome = ANY(%(outcomes)s) {host}
      AND due_at >= coalesce(%(since)s::timestamptz, '-infinity')
      AND due_at <= coalesce(
          %(until)s::timestamptz - interval '1 microsecond', 'infinity'
      )
      AND (due_at, id) > (
          coalesce((SELECT due_at FROM timer WHERE id = %(after)s),
                   '-infinity'),
          coalesce(%(after)s::uuid, '00000000-0000-0000-0000-000000000000')
      )
    ORDER BY due_at, id LIMIT %(limit)s
    """


FAILED = _failed()
FAILED_AT_HOST = _failed(
    "AND host = %(host)s AND coalesce(url ~* %(port)s, false)"
)


def get(timer_id: UUID) -> StoredTimer | None:
    """Return a timer, or None when there is none of that id.

    If parts of its row can't be read, the rest is returned; `error` says so.
    """
    with pool().connection() as connection:
        timers = reading.stored_timers(connection, GET, {"id": timer_id})
    return timers[0] if timers else None


def definition(timer_id: UUID) -> tuple[int, Definition] | None:
    """Return a timer's version and what it calls, None if there is none.

    Raises one of `aside.ROW_ERRORS` for a row that can't be read.
    """
    with pool().connection() as connection:
        rows = named(connection.execute(DEFINITION, {"id": timer_id}))
    if not rows:
        return None
    return rows[0]["version"], reading.definition(rows[0])


def attempts(timer_id: UUID) -> list[Attempt]:
    """Return a timer's attempts that have ended, in order."""
    with pool().connection() as connection:
        return reading.attempts(connection, ATTEMPTS, {"id": timer_id})


def failed(of: GaveUpFilter, *, limit: int) -> list[StoredTimer]:
    """Return timers that gave up, in the order of `due_at`, then `id`.

    Raises psycopg.errors.QueryCanceled, or `database.Busy`, when that would
    take too long.
    """
    values = asdict(of) | {"limit": limit}
    values["outcomes"] = [outcome.value for outcome in of.outcomes]
    values["port"] = port_pattern(of.port)
    query = FAILED if of.host is None else FAILED_AT_HOST
    with list_pool().connection() as connection:
        return reading.stored_timers(connection, query, values)


def port_pattern(port: int | None) -> str:
    """Return a pattern for URLs with a port, in any case; None: all match."""
    if port is None:
        return ""
    host = r"(\[[^]]*]|[^][/?#:]*)"
    ways = (
        f"{scheme}://{host}(:0*{port}){'?' if port == default else ''}"
        for scheme, default in (("http", 80), ("https", 443))
    )
    return f"^({'|'.join(ways)})([/?#]|$)"
