"""Cancelling many waiting timers."""

from collections.abc import Sequence
from uuid import UUID

from apps.core.database import pool
from apps.timers.storage.aside import each_for_itself, reason, skipped

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

_GROUP = 500


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
