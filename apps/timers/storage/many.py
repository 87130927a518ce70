"""Many timers at once: they are moved, or counted by how they stand."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

from apps.accounts.log import LoggedChange
from apps.core.database import pool
from apps.core.rows import named
from apps.timers.storage import changing
from apps.timers.storage.aside import each_for_itself, reason, skipped
from apps.timers.storage.reading import STATUS
from apps.timers.storage.records import Change

#: How many timers are moved in one commit, at most.
_GROUP = 500

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
    moved: set[UUID] = set()
    work = partial(_move, account, delay, logged)
    for first in range(0, len(timer_ids), _GROUP):
        group = timer_ids[first:first + _GROUP]
        moved.update(each_for_itself(work, group, _skip))
    return moved


def _move(
    account: int,
    delay: timedelta,
    logged: LoggedChange,
    timer_ids: Sequence[UUID],
) -> list[UUID]:
    changes = [
        Change(timer_id, account, "moved", delay=delay)
        for timer_id in timer_ids
    ]
    with pool().connection() as connection, connection.transaction():
        moved = list(changing.run(connection, changes, leaves=True))
        if moved:
            logged.log(connection, len(moved))
    return moved


def _skip(timer_id: UUID, error: Exception) -> list[UUID]:
    skipped.add(timer_id, reason(error))
    return []


def standing(account: int, timer_ids: Sequence[UUID]) -> Counter[str]:
    """Count an account's timers by how they stand, as STANDING says."""
    values = {
        "account": account, "ids": list(timer_ids),
        "most": changing.MOST_ATTEMPTS,
    }
    with pool().connection() as connection:
        rows = named(connection.execute(STANDING, values))
    return Counter({row["how"]: row["count"] for row in rows})
