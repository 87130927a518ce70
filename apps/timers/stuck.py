"""Rows whose times would keep them for ever; only SQL by hand writes such."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from apps.timers import sql, store
from apps.timers.aside import each_for_itself, reason, set_aside, skipped
from apps.timers.database import pool

#: Whose lease ends later than this from now does not hold a claim, which
#: lasts `store.LEASE`: SQL set it, or Postgres's clock was set back.
LONGEST_LEASE = timedelta(minutes=1)


def free_stuck(*, limit: int) -> int:
    """Free rows that nothing else would find again; return how many.

    What waits for a time that never comes ends as failed. A lease that is
    missing, or too long, becomes one of `store.LEASE`: its worker may yet
    report, else the timer is taken over. One that an ended timer still has
    is removed.
    """
    values = {
        "limit": limit,
        "longest": LONGEST_LEASE,
        "skipped": skipped.ids(),
    }
    with pool().connection() as connection:
        rows = connection.execute(sql.STUCK, values).fetchall()
    never_due = [timer_id for timer_id, is_leased in rows if not is_leased]
    for timer_id in never_due:
        set_aside(timer_id, ValueError("next_at is after the year 9999"))
    leased = [timer_id for timer_id, is_leased in rows if is_leased]
    each_for_itself(_limit_leases, leased, _skip)
    return len(rows)


def _limit_leases(timer_ids: Sequence[UUID]) -> list[None]:
    values = {
        "ids": list(timer_ids),
        "lease": store.LEASE,
        "longest": LONGEST_LEASE,
    }
    if timer_ids:
        with pool().connection() as connection:
            connection.execute(sql.LIMIT_LEASES, values)
    return []


def _skip(timer_id: UUID, error: Exception) -> list[None]:
    skipped.add(timer_id, reason(error))
    return []
