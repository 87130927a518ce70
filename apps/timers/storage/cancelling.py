"""Cancelling many waiting timers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from apps.core.database import list_pool, pool
from apps.timers.storage.aside import each_for_itself, reason, skipped
from apps.timers.storage.looking import port_pattern

# As CANCEL in changing.py; locked in one order, so that no two requests wait
# for each other.
CANCEL = """
WITH waiting AS MATERIALIZED (
    SELECT id FROM timer
    WHERE id = ANY(%(ids)b) AND fired_at IS NULL AND outcome IS NULL
      AND (sent_at IS NULL OR retries > 0)
    ORDER BY id
    FOR UPDATE
),
cancelled AS (
    UPDATE timer
    SET outcome = 'cancelled', queued_at = NULL, version = version + 1
    FROM waiting WHERE timer.id = waiting.id
    RETURNING timer.id
),
noted AS (
    INSERT INTO event (timer_id, at, what)
    SELECT id, clock_timestamp(), 'cancelled' FROM cancelled
)
SELECT id FROM cancelled
"""

# A missing bound becomes one that all timers meet.
WAITING = """
SELECT id FROM timer
WHERE fired_at IS NULL AND outcome IS NULL
  AND (sent_at IS NULL OR retries > 0)
  AND (%(host)s::text IS NULL
       OR host = %(host)s AND coalesce(url ~* %(port)s, false))
  AND due_at >= coalesce(%(since)s::timestamptz, '-infinity')
  AND due_at < coalesce(%(until)s::timestamptz, 'infinity')
ORDER BY due_at, id LIMIT %(limit)s
"""

_GROUP = 500


@dataclass(frozen=True, slots=True)
class WaitingFilter:
    """Which of the waiting timers are meant.

    The fields are those of a `GaveUpFilter`.
    """

    host: str | None = None
    port: int | None = None
    since: datetime | None = None
    until: datetime | None = None


def waiting(of: WaitingFilter, *, limit: int) -> list[UUID]:
    """Return waiting timers, in the order of `due_at`, then `id`.

    Raises psycopg.errors.QueryCanceled, or `database.Busy`, when that would
    take too long.
    """
    values = asdict(of) | {"limit": limit, "port": port_pattern(of.port)}
    with list_pool().connection() as connection:
        rows = connection.execute(WAITING, values).fetchall()
    return [timer_id for (timer_id,) in rows]


def cancel(timer_ids: Sequence[UUID]) -> set[UUID]:
    """Cancel waiting timers, 500 in a commit; return which were cancelled.

    A row that can't be written stays as it is.
    """
    cancelled: set[UUID] = set()
    for first in range(0, len(timer_ids), _GROUP):
        group = timer_ids[first:first + _GROUP]
        cancelled.update(each_for_itself(_cancel, group, _bad))
    return cancelled


def _cancel(timer_ids: Sequence[UUID]) -> list[UUID]:
    with pool().connection() as connection:
        rows = connection.execute(CANCEL, {"ids": list(timer_ids)}).fetchall()
    return [timer_id for (timer_id,) in rows]


def _bad(timer_id: UUID, error: Exception) -> list[UUID]:
    skipped.add(timer_id, reason(error))
    return []
