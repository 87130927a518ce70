"""Many timers at once: they are moved, fired, or counted by their standing."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from apps.accounts.log import LoggedChange
from apps.core.database import Connection, pool
from apps.core.rows import Row, named
from apps.timers.storage import changing
from apps.timers.storage.aside import by_groups, each_for_itself, skip
from apps.timers.storage.reading import STATUS
from apps.timers.storage.records import Change, Stored, read_clock
from apps.timers.storage.replaying import MOST_ATTEMPTS

# Besides the statuses: "called" waits, and is sent again only because its
# worker died; "often" gave up, and was tried too often to be replayed;
# "erased" gave up, and what it called is not known any more.
STANDING = f"""
SELECT CASE WHEN outcome IS NULL AND fired_at IS NULL
                 AND sent_at IS NOT NULL AND retries = 0 THEN 'called'
            WHEN outcome IN ('failed', 'unknown', 'missed')
                 AND erased_at IS NOT NULL THEN 'erased'
            WHEN outcome IN ('failed', 'unknown', 'missed')
                 AND attempts::bigint + claims >= %(most)s THEN 'often'
            ELSE {STATUS} END AS how,
       count(*) AS count
FROM timer WHERE id = ANY(%(ids)b) AND account_id = %(account)s
GROUP BY how
"""


def move(
    account: int,
    timer_ids: Sequence[UUID],
    delay: timedelta,
    logged: LoggedChange,
) -> set[UUID]:
    """Move an account's timers that wait; return which were moved.

    They are moved, and that is logged, 500 in a commit, each as
    `changing.change` does. Those that become near are left to the dispatcher:
    their messages hold up no others. A row that can't be written stays as it
    is.
    """
    changes = [
        Change(timer_id, account, "moved", delay=delay)
        for timer_id in timer_ids
    ]
    return set(by_groups(partial(_move, logged), changes, _skip))


def _move(logged: LoggedChange, changes: Sequence[Change]) -> list[UUID]:
    with pool().connection() as connection, connection.transaction():
        return list(_run(connection, changes, logged, leaves=True))


def fire(
    account: int, timer_ids: Sequence[UUID], logged: LoggedChange
) -> list[Stored]:
    """Fire an account's timers that wait, in one commit; return these.

    That is logged. A row that can't be written stays as it is.
    """
    changes = [
        Change(timer_id, account, "fired", delay=timedelta(0))
        for timer_id in dict.fromkeys(timer_ids)
    ]
    return each_for_itself(partial(_fire, logged), changes, _skip)


def _fire(logged: LoggedChange, changes: Sequence[Change]) -> list[Stored]:
    with pool().connection() as connection:
        with connection.transaction():
            rows = _run(connection, changes, logged)
        clock = read_clock(connection)
    return [changing.changed(row, clock) for row in rows.values()]


def _run(
    connection: Connection,
    changes: Sequence[Change],
    logged: LoggedChange,
    *,
    leaves: bool = False,
) -> dict[UUID, Row]:
    rows = changing.run(connection, changes, leaves=leaves)
    if rows:
        logged.log(connection, len(rows))
    return rows


def _skip(change: Change, error: Exception) -> list[Any]:
    return skip(change.id, error)


def standing(account: int, timer_ids: Sequence[UUID]) -> Counter[str]:
    """Count an account's timers by how they stand, as STANDING says."""
    values = {
        "account": account, "ids": list(timer_ids),
        "most": MOST_ATTEMPTS,
    }
    with pool().connection() as connection:
        rows = named(connection.execute(STANDING, values))
    return Counter({row["how"]: row["count"] for row in rows})
