"""Rows whose times would keep them for ever, and how they are freed.

Only SQL by hand, or a clock that was set back, makes such rows.
"""

from collections.abc import Sequence
from uuid import UUID

from apps.core.database import pool
from apps.timers.storage import sql, store
from apps.timers.storage.aside import (
    each_for_itself,
    reason,
    set_aside,
    skipped,
)


def free_stuck() -> None:
    """Free rows that nothing else would find again, 500 of a kind.

    A timer that waits for a time that never comes ends as failed. A lease
    that is missing, or ends in more than a minute (Postgres's clock may have
    been set back), becomes one of `store.LEASE`: its worker may still report,
    else the timer is taken over. A lease that an ended timer still has is
    removed.
    """
    values = {"skipped": skipped.ids()}
    with pool().connection() as connection:
        rows = connection.execute(sql.STUCK, values).fetchall()
    for timer_id, is_leased in rows:
        if not is_leased:
            error = ValueError("next_at is after the year 9999")
            set_aside(timer_id, error)
    if leased := [timer_id for timer_id, is_leased in rows if is_leased]:
        each_for_itself(_limit_leases, leased, _skip)


def _limit_leases(timer_ids: Sequence[UUID]) -> list[None]:
    values = {"ids": list(timer_ids), "lease": store.LEASE}
    with pool().connection() as connection:
        connection.execute(sql.LIMIT_LEASES, values)
    return []


def _skip(timer_id: UUID, error: Exception) -> list[None]:
    skipped.add(timer_id, reason(error))
    return []
